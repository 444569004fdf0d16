"""The memory that this process takes, and the limits of its control groups (both versions of them)."""

import os
import re
from contextlib import suppress
from typing import NamedTuple

_UNLIMITED = 1 << 60
"""A limit of so many bytes or more is no limit: version 1 of control groups states 2^63, rounded to pages,
where there is none."""
_ROOT = "/sys/fs/cgroup"


class Group(NamedTuple):
    """A control group that bounds memory."""

    directory: str
    limit: int
    """Bytes: the group's hard limit, or the limit above which the kernel slows the group down, whichever is
    smaller."""
    version: int


def own_bytes() -> int:
    """Returns the number of bytes of this process's memory that no file backs: they leave memory only when
    they are freed.

    Returns 0 if /proc cannot be read.
    """
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        found = re.search(r"^RssAnon:\s+(\d+) kB", file.read(), re.MULTILINE)
        return int(found[1]) << 10 if found else 0
    return 0


def tightest_group(pid: int | str = "self", root: str = _ROOT) -> Group | None:
    """Returns the group with the smallest limit on the way from a process's control groups to their roots;
    None if none has a limit. Raises OSError if the process is gone."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    groups = [group for line in lines for group in _groups(line, root)]
    return min(groups, key=lambda group: group.limit, default=None)


def _groups(line: str, root: str) -> list[Group]:
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if number == "0":
        top, version, names = root, 2, ["memory.max", "memory.high"]
    elif "memory" in controllers.split(","):
        top, version, names = os.path.join(root, "memory"), 1, ["memory.limit_in_bytes"]
    else:
        return []
    parts = [part for part in path.split("/") if part]
    found = []
    for depth in range(len(parts) + 1):
        directory = os.path.join(top, *parts[:depth])
        limits = [limit for name in names if (limit := _number(os.path.join(directory, name))) is not None]
        if limits and min(limits) < _UNLIMITED:
            found.append(Group(directory, min(limits), version))
    return found


def bytes_in(group: Group) -> int:
    """Returns the number of bytes of a group that the kernel cannot take back by itself: those of its
    processes and of the kernel, without the pages of files. Returns 0 if they cannot be read."""
    used = _number(
        os.path.join(group.directory, "memory.usage_in_bytes" if group.version == 1 else "memory.current")
    )
    with suppress(OSError, ValueError):
        with open(os.path.join(group.directory, "memory.stat"), encoding="utf-8") as file:
            facts = {name: int(value) for name, value in map(str.split, file)}
        prefix = "total_" if group.version == 1 else ""
        names = ("inactive_file", "active_file", "slab_reclaimable")
        return max(0, (used or 0) - sum(facts.get(prefix + name, 0) for name in names))
    return used or 0


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):  # "max"
        return None
