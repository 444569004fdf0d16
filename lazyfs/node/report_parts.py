"""The parts of a bug report that the machine knows: daemons, logs, mounts, versions. Each function runs in a
child process."""

import importlib.metadata
import os
import platform
import re
import stat
from contextlib import suppress
from typing import Any

from lazyfs.daemon.survival.keeper_line import NAME as KEEPER
from lazyfs.system import mountpoint as points

LAST_BYTES = 64 << 10
"""The largest number of bytes of a log that a report takes."""
_MOST_DAEMONS = 50
_MOST_THREADS = 64
_PACKAGES = re.compile(r"[A-Za-z0-9._-]+")


def versions() -> dict[str, Any]:
    """Returns the versions of lazyfs, of its libraries, of Python, the kernel and the distribution."""
    libraries = {}
    for line in importlib.metadata.requires("lazyfs") or []:
        name = _PACKAGES.match(line)
        with suppress(importlib.metadata.PackageNotFoundError):
            if name:
                libraries[name[0]] = importlib.metadata.version(name[0])
    return {
        "lazyfs": importlib.metadata.version("lazyfs"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": os.uname().release,
        "system": _line_of("/etc/os-release", "PRETTY_NAME="),
        "libraries": libraries,
    }


def mount_lines() -> list[str]:
    """Returns the lines of mountinfo about mounts of lazyfs, and about autofs, which may have made them."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        kinds = (f" - {points.FSTYPE} ", " - autofs ")
        return [line.rstrip("\n") for line in file if any(kind in line for kind in kinds)]


def waiting_requests() -> dict[str, str]:
    """Returns the number of the kernel's requests that wait for each mount's daemon, by device number."""
    found = {}
    for mount in points.mounts():
        if mount.fstype == points.FSTYPE:
            minor = mount.device.partition(":")[2]
            found[f"{mount.device} {mount.mountpoint}"] = _line_of(
                f"/sys/fs/fuse/connections/{minor}/waiting"
            )
    return found


def daemons() -> list[dict[str, Any]]:
    """Returns a record of each daemon and keeper that this user may look at: process id, command line, path
    of the log, state, memory, and the kernel function that each thread waits in."""
    found: list[dict[str, Any]] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        if len(found) >= _MOST_DAEMONS:
            break
        with suppress(OSError):
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = os.fsdecode(file.read(1 << 16)).split("\0")
            if words[0] == KEEPER or ("mount" in words and any("lazyfs" in word for word in words[:4])):
                found.append(_daemon(name, words))
    return found


def last_lines(path: str) -> str:
    """Returns the end of a log, from a line's beginning; empty if the path is no file. Raises OSError."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(number, "rb") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - LAST_BYTES))
        text = file.read(LAST_BYTES).decode(errors="replace")
    return text if found.st_size <= LAST_BYTES else text.partition("\n")[2]


def _daemon(pid: str, words: list[str]) -> dict[str, Any]:
    threads = {}
    for thread in os.listdir(f"/proc/{pid}/task")[:_MOST_THREADS]:
        with suppress(OSError):
            threads[thread] = _line_of(f"/proc/{pid}/task/{thread}/wchan")
    return {
        "pid": int(pid),
        "command": [word for word in words if word],
        "log": _target(f"/proc/{pid}/fd/2"),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "state": _line_of(f"/proc/{pid}/status", "State:"),
        "memory": _line_of(f"/proc/{pid}/status", "VmRSS:"),
        "threads wait in": threads,
    }


def _target(link: str) -> str:
    with suppress(OSError):
        found = os.readlink(link)
        if found.startswith("/") and not found.startswith(("/dev/", "/proc/")):
            return found
    return ""


def _line_of(path: str, beginning: str = "") -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip().strip('"')
    return ""
