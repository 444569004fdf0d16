"""Finds the programs of an enclosure: the processes that get the caller's signals."""

from collections.abc import Callable, Iterable

from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.watcher import children, mount_namespace
from lazyfs.system.mount_table import mounts_in

_Place = Callable[[int], object]
"""A function that takes a process id and returns a value for the root filesystem or the mount namespace of
the process. Processes with equal values are in the same one."""


def programs_below(enclosure: Enclosure, outer: int) -> list[int]:
    """Returns the process ids of the programs; an empty list before one is started. `outer`: the process id
    of the init's parent.

    A process below the init counts as a program if its root is not the machine's, and it has no name of the
    runtime's own processes. A helper of the runtime (a squashfuse that apptainer asks for its version) may be
    in the namespaces of the program, but it is the machine's, so it has the machine's root. If the machine's
    root is the image too, mount namespaces are compared in place of roots.
    """
    place = mount_namespace if enclosure.root == "/" else root_mount
    found = [
        program
        for init in children(outer)
        for program in _search(enclosure.own_names, children(init), place, place(init))
    ]
    return [child for shell in found for child in children(shell)] if enclosure.in_shell else found


def _search(own_names: frozenset[str], pids: Iterable[int], place: _Place, outside: object) -> list[int]:
    found = []
    for pid in pids:
        is_own = _name(pid) in own_names or place(pid) == outside
        found += _search(own_names, children(pid), place, outside) if is_own else [pid]
    return found


def root_mount(pid: int) -> tuple[str, ...]:
    """Returns (device, path in the filesystem, type, source) of the mount that a process has as its root
    directory, as the process's mount table states them: the filesystem itself may not answer. If the table
    cannot be read, returns a tuple of the process id alone, which equals no other process's result. The tuple
    is empty if the table has no mount at `/`."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            at_root = mounts_in(file.read(), "/")
    except OSError:
        return (str(pid),)
    return next(((mount.device, mount.root, mount.fstype, mount.source) for mount in at_root), ())


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""
