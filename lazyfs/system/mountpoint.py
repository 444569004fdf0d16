"""The mount point: what hangs there now, and taking it away."""

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
from typing import NamedTuple

from lazyfs.core.errors import UsageError

FSTYPE = "fuse.lazyfs"
_MNT_DETACH = 2
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo. Names that are not UTF-8 come as os.fsdecode has them."""

    device: str
    """major:minor, which names the connection and the bdi under /sys."""
    mountpoint: str
    fstype: str
    source: str
    options: str

    @property
    def owner(self) -> int | None:
        """The user who made this FUSE mount, as the kernel noted it; None for filesystems that note none."""
        found = re.search(r"(?:^|[ ,])user_id=(\d{1,10})(?:,|$)", self.options)
        return int(found[1]) if found else None


def mounts() -> list[Mount]:
    """All mounts of this namespace, in the order they were made."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mountinfo(file.read())


def parse_mountinfo(content: bytes) -> list[Mount]:
    """The mounts in a mountinfo (proc(5)), whatever bytes their names are made of.

    The kernel escapes space, tab, line feed and backslash in names, and nothing else: a carriage return ends
    no line. Lines that are no mounts are left out.
    """
    found = []
    for line in content.split(b"\n"):
        before, separator, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if separator and len(fields) >= 6 and len(rest) >= 2:
            device, mountpoint, options = fields[2], fields[4], fields[5]
            texts = (device, _plain(mountpoint), rest[0], _plain(rest[1]), b" ".join((options, *rest[2:])))
            found.append(Mount(*(os.fsdecode(text) for text in texts)))
    return found


def _plain(name: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)


def find(mountpoint: str) -> Mount | None:
    """What is mounted on this directory, topmost; looks at no file of it, so a dead mount cannot hang it."""
    found = [mount for mount in mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def absolute(mountpoint: str) -> str:
    """The path as the kernel lists it; the last component is not touched, for it may be a dead mount.
    Raises UsageError for a name that no file can have."""
    if "\0" in mountpoint:
        raise UsageError(f"mount point {mountpoint!r} holds a NUL byte: no file is called so")
    head, tail = os.path.split(os.path.abspath(mountpoint))
    return os.path.join(os.path.realpath(head), tail)


def prepare(mountpoint: str) -> bool:
    """Makes sure that a mount can go there; a mount left by a killed daemon is taken away first.

    Returns whether one was. Raises UsageError.
    """
    there = find(mountpoint)
    replaced = there is not None and there.fstype == FSTYPE and not _alive(mountpoint)
    if replaced:
        unmount(mountpoint)
    try:
        found = os.stat(mountpoint)
    except FileNotFoundError:
        raise UsageError(f"mount point {mountpoint} does not exist: mkdir it first") from None
    except OSError as error:
        raise UsageError(f"mount point {mountpoint}: {error.strerror}; choose another") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"mount point {mountpoint} is no directory: choose another")
    there = find(mountpoint)
    # A direct map and systemd's automount units hang a trigger there: it is what the mount goes over.
    if there and there.fstype != "autofs":
        how = f"lazyfs umount {mountpoint}" if there.fstype == FSTYPE else "choose another, or unmount that"
        raise UsageError(
            f"mount point {mountpoint} is busy: {there.source} ({there.fstype}) is mounted there; {how}"
        )
    return replaced


def _alive(mountpoint: str) -> bool:
    """Whether a daemon answers. statfs is the one question that the kernel never answers from memory."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    return True


def check_device(path: str = "/dev/fuse") -> None:
    """Raises UsageError, with what to do, if FUSE filesystems cannot be mounted by this user."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: load the module as root (modprobe fuse), or run the container with "
            f"--device /dev/fuse"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be opened by uid {os.geteuid()}: {error.strerror}; as root: chmod 0666 {path}"
        ) from None


def unmount(mountpoint: str, *, lazy: bool = True) -> None:
    """Takes the topmost mount of this directory away; `lazy` also while it is in use: programs inside keep
    what they have open. Raises UsageError."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0) == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EBUSY:
            raise UsageError(f"{mountpoint} is in use; see who with: fuser -vm {mountpoint}")
        raise UsageError(f"cannot unmount {mountpoint}: {os.strerror(number)}")
    tool = shutil.which("fusermount3")
    if tool is None:
        raise UsageError("fusermount3 is not installed: apt-get install fuse3, or unmount as root")
    flags = "-uzq" if lazy else "-u"
    done = subprocess.run([tool, flags, "--", mountpoint], check=False, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().removeprefix("fusermount3: ") or f"exit code {done.returncode}"
        raise UsageError(f"cannot unmount {mountpoint}: {reason}")
