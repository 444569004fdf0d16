"""The processes above and below a process, as /proc shows them."""

import os


def ancestors() -> set[int]:
    """Returns the ids of this process and of its ancestors."""
    found = {os.getpid()}
    pid: int | None = os.getppid()
    while pid:
        found.add(pid)
        pid = _parent(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Returns the ids of all descendants of a process, parents before their children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (above := _parent(int(name))) is not None:
            children.setdefault(above, []).append(int(name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found[1:]


def _parent(pid: int) -> int | None:
    """Returns the id of a process's parent; None if the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])  # the command's name may hold anything
    except (OSError, IndexError, ValueError):
        return None
