"""Processes of a test: commands that it runs to their end, and processes that other programs have started."""

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
    """Returns True once a process has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as line:
            return " Z " in line.read()
    except (FileNotFoundError, ProcessLookupError):
        return True


def daemons(mountpoint: Path) -> list[int]:
    """Returns the processes with `lazyfs mount` and this mount point on their command line, without their
    keepers."""
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
    """Stops a process for the block, as a debugger or a frozen control group does, and continues it at the
    end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
