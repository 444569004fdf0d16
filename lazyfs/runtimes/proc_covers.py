"""Chooses the parts of /proc to hide from a program that is root outside its namespaces too: no namespace
divides these parts.

For most of them the kernel checks for the user root, not for capabilities. So every entry that only root may
use is covered, without a list of names. Entries that other users may read are mounted read-only.
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

_HIDDEN = frozenset(
    {"acpi", "asound", "scsi", "interrupts", "keys", "latency_stats", "sched_debug", "timer_list"}
)
"""Names that everybody may read, but that are hidden, as runc hides them from containers."""


class ProcCovers(NamedTuple):
    """The names in /proc to cover, by kind of cover."""

    empty_files: tuple[str, ...]
    empty_directories: tuple[str, ...]
    read_only: tuple[str, ...]


def proc_covers(entries: Iterable[tuple[str, int]]) -> ProcCovers:
    """Returns the covers for entries of /proc, given as (name, st_mode). Processes, and links to their
    directories, stay uncovered: they are the program's own."""
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
    """Returns (name, st_mode) of the entries in this machine's /proc, except processes."""
    with os.scandir("/proc") as entries:
        return [
            (entry.name, entry.stat(follow_symlinks=False).st_mode)
            for entry in entries
            if not entry.name.isdigit()
        ]
