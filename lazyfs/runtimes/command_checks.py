"""Looks, before a start, for obstacles that stop every runtime: a missing command or directory, or a program
for another kind of processor.

Runtimes report these obstacles in different ways, some as the program's own failure.
"""

import os
import stat
import struct
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.bind_places import MountPoints, mount_points
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import RUNTIME_FAILED
from lazyfs.system.rooted_paths import Location, open_in_root

NOT_EXECUTABLE, NOT_FOUND = 126, 127
_SHELL = "/bin/sh"
_HEADER = 20
"""Bytes of an ELF file up to the end of e_machine."""
_RUNS: dict[str, frozenset[int]] = {
    "x86_64": frozenset({62, 3}),
    "i686": frozenset({3}),
    "aarch64": frozenset({183, 40}),
    "armv7l": frozenset({40}),
    "ppc64le": frozenset({21}),
    "s390x": frozenset({22}),
    "riscv64": frozenset({243}),
}
"""The values of e_machine (elf.h) of the programs that a machine executes, by the machine's name as uname
gives it."""
_NAMES = {3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}
_EMULATION = "/proc/sys/fs/binfmt_misc"


class Obstacle(NamedTuple):
    """The reason why a start is not tried."""

    exit_code: int
    reason: str
    failed: str
    """The part that failed: `program`, `request` or `image`."""


def obstacle(launch: Launch) -> Obstacle | None:
    """Returns the obstacle of a launch; None if there is none, or if the missing file may be in what is
    mounted in the image: a bind, /proc or /dev. None for a SIF file too, which cannot be looked into before
    its start. Raises UsageError for binds that cannot be mounted together."""
    if launch.is_file:
        return None
    points = mount_points(launch.root, launch.binds)
    found = _command(launch, points)
    if isinstance(found, Obstacle):
        return found
    workdir = _located(launch.root, launch.workdir, points)
    if workdir is None or not (workdir.rest or workdir.stopped or stat.S_ISDIR(workdir.mode)):
        return Obstacle(
            RUNTIME_FAILED, f"the working directory {launch.workdir} is not in the image", "request"
        )
    machine = None if found is None else _machine(launch.root, found) or _machine(launch.root, _SHELL)
    if machine is not None and machine not in _RUNS.get(os.uname().machine, {machine}) and not _emulates():
        name = _NAMES.get(machine, f"machine {machine}")
        return Obstacle(
            RUNTIME_FAILED,
            f"the image is for {name}, and this machine is {os.uname().machine}: take another image",
            "image",
        )
    return None


def _command(launch: Launch, points: MountPoints) -> str | Obstacle | None:
    """Returns the command's path in the image, or the obstacle; None if the command may be in what is mounted
    there."""
    name = launch.command[0]
    if "/" in name:
        places = [os.path.join(launch.workdir, name)]
    else:
        entries = dict.fromkeys(launch.environment["PATH"].split(":"))
        places = [os.path.join(launch.workdir, entry, name) for entry in entries]
    unusable = None
    for place in places:
        found = _located(launch.root, place, points)
        if found is None or (found.stopped and found.found == points.empty):
            continue
        if found.stopped:
            return None
        if stat.S_ISREG(found.mode) and found.mode & 0o111:
            return place
        unusable = unusable or place
    if unusable is not None:
        return Obstacle(
            NOT_EXECUTABLE, f"command {name}: {unusable} in the image is no executable file", "program"
        )
    where = (
        "is not in the image" if "/" in name else f"is in none of {launch.environment['PATH']} in the image"
    )
    return Obstacle(NOT_FOUND, f"command {name} {where}", "program")


def _located(root: str, path: str, points: MountPoints) -> Location | None:
    """Returns the place to which a path leads, in the image, at one of the mount points or at a directory
    that is made for one of these; None if there will be nothing."""
    try:
        found = path_in_image.locate(root, path, points.all)
    except UsageError:
        return None
    made = os.path.join(found.found, *found.rest, "")
    if found.stopped or not found.rest or any(point.startswith(made) for point in points.all):
        return found
    return None


def _machine(root: str, path: str) -> int | None:
    """Returns e_machine of an ELF file; None for other files and unreadable ones."""
    try:
        with path_in_image.opened(root) as directory:
            number = open_in_root(directory, path, os.O_RDONLY | os.O_NONBLOCK)
        with path_in_image.closing_descriptor(number):
            raw = os.read(number, _HEADER) if stat.S_ISREG(os.fstat(number).st_mode) else b""
    except (OSError, LazyfsError):
        return None
    if len(raw) < _HEADER or raw[:4] != b"\x7fELF":
        return None
    return int(struct.unpack_from(">H" if raw[5] == 2 else "<H", raw, 18)[0])


def _emulates() -> bool:
    """Returns True if the kernel has an emulator for programs of other machines."""
    try:
        return any(name not in ("register", "status") for name in os.listdir(_EMULATION))
    except OSError:
        return False
