"""Mount points: the table of what is mounted, whether a mount can go there, and unmounting."""

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.system.bounded_look import ask_one

FSTYPE = "fuse.lazyfs"
_MNT_FORCE, _MNT_DETACH = 1, 2
LOOK_SECONDS = 2.0
"""Seconds that a filesystem may take to answer; a healthy one takes a millisecond."""
UNMOUNT_SECONDS = 20.0
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
    """Returns all mounts of this namespace, in the order they were made."""
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
    """Returns the topmost mount on this directory, from the table: a dead mount cannot hang it."""
    found = [mount for mount in mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def absolute(mountpoint: str) -> str:
    """Returns the path as the kernel lists it. What is mounted there is not touched: it may be dead.

    Raises UsageError for a name that no file can have, and where a filesystem on the way does not answer.
    """
    if "\0" in mountpoint:
        raise UsageError(f"mount point {mountpoint!r} holds a NUL byte: no file is called so")
    try:
        path = os.path.abspath(mountpoint)
    except FileNotFoundError:
        raise UsageError(
            f"mount point {mountpoint}: the working directory is gone; give the whole path"
        ) from None
    there = {mount.mountpoint for mount in mounts()}
    answer = ask_one(lambda: _resolved(path, there), LOOK_SECONDS, own_session=False)
    if not answer.came:
        raise UsageError(f"mount point {path}: a filesystem on the way does not answer in {LOOK_SECONDS:g} s")
    return str(answer.value)


def _resolved(path: str, there: set[str]) -> str:
    """In a child: the path without links, as far as no mount point is reached by its last component."""
    head, tail = os.path.split(path)
    found = os.path.join(os.path.realpath(head), tail)
    return found if found in there else os.path.realpath(found)


def prepare(mountpoint: str) -> bool:
    """Makes sure that a mount can go there; a mount left by a killed daemon is taken away first.

    Returns True if there was one. Raises UsageError.
    """
    there = find(mountpoint)
    state = health(mountpoint) if there is not None and there.fstype == FSTYPE else Health.ALIVE
    if state is Health.DEAD:
        unmount(mountpoint)
        there = find(mountpoint)
    # A direct map and systemd's automount units hang a trigger there: it is what the mount goes over.
    if there and there.fstype != "autofs":
        how = f"lazyfs umount {mountpoint}" if there.fstype == FSTYPE else "choose another, or unmount that"
        what = f"{there.source} ({there.fstype})"
        if state is Health.SILENT:
            what += f", whose daemon does not answer in {LOOK_SECONDS:g} s,"
        raise UsageError(f"mount point {mountpoint} is busy: {what} is mounted there; {how}")
    _check_directory(mountpoint)
    return state is Health.DEAD


def _check_directory(mountpoint: str) -> None:
    answer = ask_one(lambda: _stat(mountpoint), LOOK_SECONDS, own_session=False)
    if not answer.came:
        raise UsageError(f"mount point {mountpoint}: its filesystem does not answer in {LOOK_SECONDS:g} s")
    number, mode = answer.value
    if number == errno.ENOENT:
        raise UsageError(f"mount point {mountpoint} does not exist: mkdir it first")
    if number:
        raise UsageError(f"mount point {mountpoint}: {os.strerror(number)}; choose another")
    if not stat.S_ISDIR(mode):
        raise UsageError(f"mount point {mountpoint} is no directory: choose another")


def holds_files(mountpoint: str) -> bool:
    """Returns True if a directory has something in it that a mount would hide. An automounter's trigger and
    what does not answer in LOOK_SECONDS count as empty."""
    there = find(mountpoint)
    if there and there.fstype == "autofs":
        return False
    answer = ask_one(lambda: _has_names(mountpoint), LOOK_SECONDS, own_session=False)
    return bool(answer.came and answer.value)


def _has_names(path: str) -> bool:
    """In a child."""
    try:
        with os.scandir(path) as names:
            return next(names, None) is not None
    except OSError:
        return False


def _stat(path: str) -> tuple[int, int]:
    """In a child: (errno, mode)."""
    try:
        return 0, os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.EIO, 0


class Health(Enum):
    """How a mount fares, as far as can be told from outside its daemon."""

    ALIVE = "alive"
    DEAD = "dead"
    """Its daemon is gone."""
    SILENT = "silent"
    """Its daemon is frozen, or very slow."""


def health(mountpoint: str, seconds: float = LOOK_SECONDS) -> Health:
    """Asks the daemon of a mount, for `seconds` at most. statfs is the one question that the kernel never
    answers from memory."""
    answer = ask_one(lambda: _statvfs(mountpoint), seconds)
    if not answer.came:
        return Health.SILENT
    return Health.DEAD if answer.value in (errno.ENOTCONN, errno.ECONNABORTED) else Health.ALIVE


def _statvfs(path: str) -> int:
    """In a child: errno."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


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
    """Takes the topmost mount of this directory away. Raises UsageError.

    `lazy`: also while it is in use; programs inside keep the files they have open.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0) == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EBUSY:
            raise UsageError(f"{mountpoint} is in use; see who with: fuser -vm {mountpoint}")
        raise UsageError(f"cannot unmount {mountpoint}: {os.strerror(number)}")
    tool = shutil.which("fusermount3") or shutil.which("fusermount3", path=os.defpath)
    if tool is None:
        raise UsageError("fusermount3 is not installed: apt-get install fuse3, or unmount as root")
    flags = "-uzq" if lazy else "-u"
    command = [tool, flags, "--", mountpoint]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=UNMOUNT_SECONDS)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"cannot unmount {mountpoint}: {tool} does not end in {UNMOUNT_SECONDS:g} s"
        ) from None
    if done.returncode:
        reason = done.stderr.strip().removeprefix(f"{tool}: ") or f"exit code {done.returncode}"
        raise UsageError(f"cannot unmount {mountpoint}: {reason}")


def abort(mount: Mount) -> None:
    """Ends the connection of a mount whose daemon does not answer, and takes the mount away: calls that wait
    for it fail with ECONNABORTED, and the daemon sees its end as soon as it runs again. Raises UsageError."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mount.mountpoint), _MNT_FORCE | _MNT_DETACH) == 0:
            return
    # A number of the device is the connection's; the user who mounted owns this file (fusectl).
    with (
        suppress(OSError),
        open(f"/sys/fs/fuse/connections/{mount.device.partition(':')[2]}/abort", "w") as file,
    ):
        file.write("1")
    unmount(mount.mountpoint)
