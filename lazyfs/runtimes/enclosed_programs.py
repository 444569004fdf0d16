"""Finds the programs of an enclosure: the processes that get the caller's signals."""

from collections.abc import Callable
from typing import NamedTuple

from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.watcher import children, mount_namespace
from lazyfs.system.mount_table import mounts_in

_Place = Callable[[int], object]
"""A function that takes a process id and returns a value for the root filesystem or the mount namespace of
the process. Processes with equal values are in the same one."""
_MOST_WALKS = 20
"""The largest number of walks below the init until two in a row agree. Two or three do, unless programs leave
orphans to the init without a pause."""


class _Walk(NamedTuple):
    """The processes that one walk below the init has met."""

    own: list[int]
    """The runtime's own processes, and those that ended before they were looked at."""
    programs: list[int]


def programs_below(enclosure: Enclosure, outer: int) -> list[int]:
    """Returns the process ids of the programs; an empty list before one is started. `outer`: the process id
    of the init's parent.

    A process below the init counts as a program if its root is not the machine's, and it has no name of the
    runtime's own processes. A helper of the runtime (a squashfuse that apptainer asks for its version) may be
    in the namespaces of the program, but it is the machine's, so it has the machine's root. If the machine's
    root is the image too, mount namespaces are compared in place of roots.

    A runtime that leaves the program to the init may end during a walk. The walk then misses the program,
    which has just moved from a process that is gone to one whose children have been read. So walks are
    repeated until two in a row meet the same processes.
    """
    walk = _walk(enclosure, outer)
    for _ in range(_MOST_WALKS):
        before, walk = walk, _walk(enclosure, outer)
        if walk == before:
            break
    found = walk.programs
    return [child for shell in found for child in children(shell)] if enclosure.in_shell else found


def _walk(enclosure: Enclosure, outer: int) -> _Walk:
    place: _Place = mount_namespace if enclosure.root == "/" else root_mount
    walk = _Walk([], [])
    for init in children(outer):
        outside = place(init)
        waiting = children(init)
        while waiting:
            pid = waiting.pop()
            name = _name(pid)
            if not name or name in enclosure.own_names or place(pid) == outside:
                walk.own.append(pid)
                waiting += children(pid)
            else:
                walk.programs.append(pid)
    return walk


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
    """Returns the name of a process; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""
