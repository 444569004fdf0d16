"""The table of mounts of this process's mount namespace, as the kernel lists it (/proc/self/mountinfo)."""

import os
import re
from typing import NamedTuple

from lazyfs.core.errors import UsageError

_ESCAPED = rb"\\([0-3][0-7]{2})"


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo. Names are decoded by os.fsdecode."""

    device: str
    """major:minor, by which /sys names the FUSE connection and the backing device (bdi)."""
    mountpoint: str
    fstype: str
    source: str
    options: str
    is_linked: bool = False
    """True if the mount is shared, or a slave: what is mounted below it later can appear in other mount
    namespaces."""
    root: str = "/"
    """The directory of the filesystem that is mounted; a bind mount may have another one than `/`."""

    @property
    def owner(self) -> int | None:
        """The id of the user who made this FUSE mount, from the kernel; None for other filesystems."""
        found = re.search(r"(?:^|[ ,])user_id=(\d{1,10})(?:,|$)", self.options)
        return int(found[1]) if found else None


def table() -> bytes:
    """Returns the content of mountinfo. Raises UsageError without /proc."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return file.read()
    except OSError as error:
        text = f"the mounts of this machine cannot be read: {error}; mount -t proc proc /proc"
        raise UsageError(text) from None


def parse_mountinfo(content: bytes) -> list[Mount]:
    """Returns the mounts in a mountinfo (proc(5)), whose names may hold any bytes.

    The kernel escapes only space, tab, line feed and backslash in names: a carriage return ends no line.
    Lines that are no mounts are left out.
    """
    return [mount for mount in map(_parsed, content.split(b"\n")) if mount is not None]


def _parsed(line: bytes) -> Mount | None:
    before, separator, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    if not separator or len(fields) < 6 or len(rest) < 2:
        return None
    device, root, mountpoint, options = fields[2:6]
    texts = (device, _plain(mountpoint), rest[0], _plain(rest[1]), b" ".join((options, *rest[2:])))
    is_linked = any(field.startswith((b"shared:", b"master:")) for field in fields[6:])
    number, point, fstype, source, together = map(os.fsdecode, texts)
    return Mount(number, point, fstype, source, together, is_linked, os.fsdecode(_plain(root)))


def _plain(name: bytes) -> bytes:
    if b"\\" not in name:
        return name
    return re.sub(_ESCAPED, lambda found: bytes([int(found[1], 8)]), name)


def types_in(content: bytes) -> dict[str, str]:
    """Returns the type of the topmost filesystem at each mount point in the content of a mountinfo. Parses
    only these two fields."""
    found = {}
    for line in content.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" ", 6), after.split(b" ", 1)
        if len(fields) >= 6 and len(rest) == 2:
            found[os.fsdecode(_plain(fields[4]))] = os.fsdecode(rest[0])
    return found


def mounts_in(content: bytes, mountpoint: str) -> list[Mount]:
    """Returns the mounts on one directory in the content of a mountinfo. Parses only the lines of these
    mounts: a start calls this three times, and a node with many jobs has a thousand mounts."""
    name = os.fsencode(mountpoint)
    found = []
    for line in content.split(b"\n"):
        fields = line.split(b" ", 5)
        if len(fields) == 6 and _plain(fields[4]) == name and (mount := _parsed(line)) is not None:
            found.append(mount)
    return found
