"""Checks the limits of the processes that serve mounts: open files and memory."""

import os
import re
from collections.abc import Iterator

import msgspec

from lazyfs.core.byte_size import shown_size
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.system.memory_use import tightest_group

LEAST_FILES = 1024
"""The number of descriptors that a daemon may need: 44 connections for each of twenty repositories, and the
cache's files."""
LEAST_MEMORY = 128 << 20
"""The smallest memory limit, in bytes, that is no fault: below it a daemon may be killed, although it drops
catalogs and answers that it has kept in memory."""


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one process."""

    who: str = "this shell"
    files: int | None = 1 << 20
    """The hard limit of open files; None for no limit."""
    memory: int | None = None
    """Bytes of the smallest memory limit of its control groups; None for no limit."""


def gather(found: Surroundings) -> list[ProcessLimits]:
    """Returns the limits of the daemons in this PID namespace; those of this process if there are no
    daemons."""
    daemons = {
        one.looked.status.pid: f"the daemon of {one.mount.mountpoint}"
        for one in found.mounts
        if one.looked.status is not None and one.looked.status.pid
    }
    limits = []
    for pid, who in daemons.items() or {os.getpid(): "this shell"}.items():
        try:
            limits.append(ProcessLimits(who=who, files=_files(pid), memory=_memory(pid)))
        except OSError:  # it has ended meanwhile
            continue
    return limits


def judge(facts: list[ProcessLimits]) -> Iterator[Finding]:
    for one in facts:
        if one.files is not None and one.files < LEAST_FILES:
            yield Finding(
                Level.WARNING,
                f"{one.who} may open {one.files} files at most; reads fail once they are used up",
                f"raise the hard limit to {LEAST_FILES} or more: LimitNOFILE= in the unit, or "
                f"/etc/security/limits.conf, and mount again",
            )
        if one.memory is not None and one.memory < LEAST_MEMORY:
            yield Finding(
                Level.WARNING,
                f"{one.who} is in a control group of {shown_size(one.memory)}; the kernel may kill it",
                f"give it {shown_size(LEAST_MEMORY)} or more (MemoryMax= in the unit), or mount elsewhere",
            )


def _files(pid: int) -> int | None:
    with open(f"/proc/{pid}/limits", encoding="ascii", errors="replace") as file:
        found = re.search(r"^Max open files +\S+ +(\d+)", file.read(), re.MULTILINE)
    return int(found[1]) if found else None


def _memory(pid: int) -> int | None:
    group = tightest_group(pid)
    return group.limit if group is not None else None
