"""Processes in tests: runs commands, and examines or stops processes that other programs have started."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def run(
    *command: str | bytes | Path, check: bool = False, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Runs a command to its end."""
    return subprocess.run(command, check=check, capture_output=True, timeout=100, **options)


def gone(pid: int) -> bool:
    """Returns True if a process has ended: reaped, being reaped (X) or not (Z)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as line:
            return line.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def parent(pid: int) -> int:
    """Returns the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def has_open(pid: int, path: Path) -> bool:
    """Returns True if a process has a file open."""
    return any(one.exists() and one.resolve() == path for one in Path(f"/proc/{pid}/fd").iterdir())


def daemons(mountpoint: Path) -> list[int]:
    """Returns the ids of the processes that have `lazyfs mount` and this mount point on their command line,
    except keepers."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            keeper = Path("/proc", name, "comm").read_text() == "lazyfs-keeper\n"
            if not keeper and b"mount" in words and os.fsencode(mountpoint) in words:
                found.append(int(name))
    return found


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process for the block, as a debugger or a frozen control group would."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def ahead_of(pid: int) -> Iterator[None]:
    """In the block, no thread of a process runs before this thread, and all threads that it has started, wait
    for something. They share one processor, where these have real-time priority."""
    before = os.sched_getaffinity(0)
    one = {min(before)}
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), one)
    os.sched_setaffinity(0, one)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)
