"""The parts of /proc that root must not reach and no namespace divides.

Being root outside is enough for most of it: the kernel asks there for the user and not for capabilities. So
all that is root's alone is covered, whatever the kernel calls it, and what others may read is read-only.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

_HIDDEN = frozenset(
    {"acpi", "asound", "scsi", "interrupts", "keys", "latency_stats", "sched_debug", "timer_list"}
)
"""Names that everybody may read and a container had better not, as runc has it."""


class ProcCovers(NamedTuple):
    """Names in /proc."""

    empty_files: tuple[str, ...]
    empty_directories: tuple[str, ...]
    read_only: tuple[str, ...]


def proc_covers(entries: Iterable[tuple[str, int]]) -> ProcCovers:
    """Sorts the names of /proc with their st_mode. Processes and links into them are the program's own."""
    files: list[str] = []
    directories: list[str] = []
    read_only: list[str] = []
    for name, mode in sorted(entries):
        if name.isdigit() or stat.S_ISLNK(mode):
            continue
        hidden = name in _HIDDEN or not mode & stat.S_IROTH
        if stat.S_ISDIR(mode):
            (directories if hidden else read_only).append(name)
        elif hidden:
            files.append(name)
        elif mode & 0o222:
            read_only.append(name)
    return ProcCovers(tuple(files), tuple(directories), tuple(read_only))


def list_proc() -> list[tuple[str, int]]:
    """The names in this machine's /proc, without those of processes."""
    with os.scandir("/proc") as entries:
        return [
            (entry.name, entry.stat(follow_symlinks=False).st_mode)
            for entry in entries
            if not entry.name.isdigit()
        ]
