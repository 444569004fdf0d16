"""Finds the programs that keep a mount busy, from /proc alone: the mount, which may hang, is not entered."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from lazyfs.system.bounded_look import ask_each, ask_one
from lazyfs.system.command_line import without_accounts
from lazyfs.system.mount_table import Mount, parse_mountinfo
from lazyfs.system.mountpoint import mounts

SECONDS = 3.0
"""Timeout of the search in seconds. A node with 10,000 processes takes half a second."""
_LONGEST = 80
"""The largest number of characters of a command that are shown."""
_MOST = 500
"""The largest number of holders that are looked for."""
_USES = {"cwd": "works in", "root": "has as its root"}


class Holder(NamedTuple):
    """A program that uses a mount."""

    pid: int
    command: str
    use: str
    """One of the program's uses of the mount, as in `has /mnt/f open`."""


class Holders(NamedTuple):
    """The programs that use a mount, as far as this user may look into processes."""

    found: list[Holder]
    complete: bool
    """False if a process could not be looked into, or if the time was over."""


def holders(mount: Mount) -> Holders:
    """Returns the processes that have a file, a directory or a program of a mount in use. Mounts below this
    mount are in the list too, as uses of pid 0."""
    below = [
        Holder(0, other.fstype, f"is mounted at {other.mountpoint}")
        for other in mounts()
        if other.mountpoint.startswith(mount.mountpoint.rstrip("/") + "/")
    ]
    looks: list[Callable[[], object]] = [
        lambda: _search(mount.device, _links),
        lambda: _search(mount.device, _maps),  # may hang on a process that the kernel holds
    ]
    answers = ask_each(looks, SECONDS, patience=SECONDS, enough=lambda _: False)
    found: dict[int, Holder] = {}
    complete = True
    for answer in answers:
        if not answer.came:
            complete = False
            continue
        uses, whole = answer.value
        complete = complete and whole
        for pid, command, use in uses:
            found.setdefault(pid, Holder(pid, command, use))
    return Holders([*below, *sorted(found.values())], complete)


def elsewhere(device: str) -> list[Holder]:
    """Returns one process of each other mount namespace in which the filesystem with this device is mounted.
    The filesystem lives on there after it was unmounted here."""
    answer = ask_one(lambda: _in_other_namespaces(device), SECONDS)
    return [Holder(pid, command, "has it in its mount namespace") for pid, command in answer.value or []]


def still_holds(mount: Mount, pid: int) -> bool:
    """Returns True if the process with this number uses the mount now."""
    with suppress(OSError):
        points = _points(pid, mount.device)
        return any(True for look in (_links, _maps) for _ in look(pid, points, mount.device))
    return False


def _search(device: str, look: "_Look") -> tuple[list[tuple[int, str, str]], bool]:
    """Returns ([(pid, command, use)], True if every process could be looked into). `look` yields the uses of
    the mount by one process. Runs in a child."""
    found: list[tuple[int, str, str]] = []
    whole = True
    points_of: dict[str, list[str]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid in (os.getpid(), os.getppid()) or len(found) >= _MOST:
            continue
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in points_of:
                points_of[namespace] = _points(pid, device)
            points = points_of[namespace]
            use = next(look(pid, points, device), None) if points else None
        except PermissionError:
            whole = False
        except OSError:  # it has ended, or is the kernel's
            continue
        else:
            if use:
                found.append((pid, _command(pid), use))
    return found, whole


_Look = Callable[[int, list[str], str], Iterator[str]]


def _links(pid: int, points: list[str], _: str) -> Iterator[str]:
    """Yields a text for each use of a mount by a process as working directory, root or open file. `points`:
    the places at which the process sees the mount. Raises OSError."""
    for name, use in _USES.items():
        path = os.readlink(f"/proc/{pid}/{name}")
        if _is_in(path, points):
            yield f"{use} {path}"
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/{pid}/fd/{number}")
            if _is_in(path, points):
                yield f"has {path} open"


def _maps(pid: int, _: list[str], device: str) -> Iterator[str]:
    """Yields a text for each file of a mount that a process runs or has mapped. Raises OSError."""
    major, _colon, minor = device.partition(":")
    wanted = f"{int(major):02x}:{int(minor):02x}".encode()
    with open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[3] == wanted:
                yield f"runs or maps {os.fsdecode(fields[5].strip())}"


def _in_other_namespaces(device: str) -> list[tuple[int, str]]:
    """Returns (pid, command) of the first process of each other namespace that has the device mounted. Runs
    in a child."""
    found: list[tuple[int, str]] = []
    known = {os.readlink("/proc/self/ns/mnt")}
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        with suppress(OSError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in known and len(found) < _MOST:
                known.add(namespace)
                if _points(pid, device):
                    found.append((pid, _command(pid)))
    return found


def _points(pid: int, device: str) -> list[str]:
    """Returns the places at which a process sees the filesystem with this device."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return [one.mountpoint for one in parse_mountinfo(file.read()) if one.device == device]


def _is_in(path: str, points: list[str]) -> bool:
    return any(path == point or path.startswith(point.rstrip("/") + "/") for point in points)


def _command(pid: int) -> str:
    with suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = without_accounts(file.read(4096)).split(b"\0")
        text = os.fsdecode(b" ".join(filter(None, words)))
        return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return ""
