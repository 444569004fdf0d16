"""Mount points: the mounts on them, the checks before mounting, and unmounting."""

import ctypes
import errno
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.local_paths import look
from lazyfs.system.mount_table import Mount, mounts_in, parse_mountinfo, table, types_in

FSTYPE = "fuse.lazyfs"
_MNT_FORCE, _MNT_DETACH = 1, 2
LOOK_SECONDS = 2.0
"""Seconds that a filesystem may take to answer; a healthy one takes a millisecond."""
UNMOUNT_SECONDS = 20.0
_ANSWERS = (errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM)
"""Errors of getxattr that prove that the filesystem is alive; EACCES comes from another user's mount."""


class InUse(UsageError):
    """Programs use the mount, or other mounts are below it."""


def mounts() -> list[Mount]:
    """Returns all mounts of this namespace, in the order they were made. Raises UsageError without /proc."""
    return parse_mountinfo(table())


def find(mountpoint: str) -> Mount | None:
    """Returns the topmost mount on this directory; None if there is none. Reads only the kernel's table of
    mounts, so that a dead mount cannot block."""
    found = mounts_on(mountpoint)
    return found[-1] if found else None


def mounts_on(mountpoint: str) -> list[Mount]:
    """Returns the mounts on this directory, in the order they were made. Raises UsageError without /proc."""
    return mounts_in(table(), mountpoint)


def absolute(mountpoint: str) -> str:
    """Returns the path as the kernel lists it. Does not touch a mount at the path, which may be dead.

    Raises UsageError for a name that no file can have, and if a filesystem on the way does not answer.
    """
    if "\0" in mountpoint:
        raise UsageError(f"mount point {mountpoint!r} holds a NUL byte: no file is called so")
    try:
        path = os.path.abspath(mountpoint)
    except FileNotFoundError:
        raise UsageError(
            f"mount point {mountpoint}: the working directory is gone; give the whole path"
        ) from None
    types = types_in(table())
    answer = look(path, types, lambda: _resolved(path, types), LOOK_SECONDS)
    if not answer.came:
        raise UsageError(f"mount point {path}: a filesystem on the way does not answer in {LOOK_SECONDS:g} s")
    return str(answer.value)


def _resolved(path: str, there: Collection[str]) -> str:
    """Returns the path without links; its last component stays as it is if the path is a mount point, one of
    `there`."""
    head, tail = os.path.split(path)
    found = os.path.join(os.path.realpath(head), tail)
    return found if found in there else os.path.realpath(found)


class Prepared(NamedTuple):
    """A directory that can be mounted on."""

    was_dead: bool
    """True if the mount of a killed daemon was on the directory, and was unmounted."""
    holds_files: bool
    """True if the directory holds files, which the mount will hide. An automounter's trigger counts as
    empty."""


def prepare(mountpoint: str) -> Prepared:
    """Makes sure that the directory can be mounted on; first unmounts the mount of a killed daemon. Raises
    UsageError."""
    replaced = False
    there, state = _topmost(mountpoint)
    while state is Health.DEAD:  # a mount that was made over a dead one may have died too
        unmount(mountpoint)
        replaced = True
        there, state = _topmost(mountpoint)
    # A direct map and systemd's automount units have a trigger there, which the mount has to cover.
    if there and there.fstype != "autofs":
        how = f"lazyfs umount {mountpoint}" if there.fstype == FSTYPE else "choose another, or unmount that"
        what = f"{there.source} ({there.fstype})"
        if state is Health.SILENT:
            what += f", whose daemon does not answer in {LOOK_SECONDS:g} s,"
        raise UsageError(f"mount point {mountpoint} is busy: {what} is mounted there; {how}")
    return Prepared(replaced, _checked(mountpoint, list_names=there is None))


def is_automounted(mountpoint: str) -> bool:
    """Returns True if a mount of lazyfs that answers is on a directory that belongs to an automounter."""
    there, state = _topmost(mountpoint)
    owned = (mountpoint, os.path.dirname(mountpoint))  # by a direct map, and by an indirect one
    return (
        there is not None
        and there.fstype == FSTYPE
        and state is Health.ALIVE
        and any(mount.fstype == "autofs" and mount.mountpoint in owned for mount in mounts())
    )


def _topmost(mountpoint: str) -> "tuple[Mount | None, Health]":
    there = find(mountpoint)
    if there is None or there.fstype != FSTYPE:
        return there, Health.ALIVE
    # In this session: an automounter that waits for this process to mount lets its process group pass alone.
    return there, health(mountpoint, own_session=False)


def _checked(mountpoint: str, *, list_names: bool) -> bool:
    """Returns True if a directory has names in it. Returns False without looking if `list_names` is false:
    listing would trigger an automounter. Raises UsageError unless it is a directory."""
    answer = look(
        mountpoint, types_in(table()), lambda: _look(mountpoint, list_names=list_names), LOOK_SECONDS
    )
    if not answer.came:
        raise UsageError(f"mount point {mountpoint}: its filesystem does not answer in {LOOK_SECONDS:g} s")
    number, mode, has_names = answer.value
    if number == errno.ENOENT:
        raise UsageError(f"mount point {mountpoint} does not exist: mkdir it first")
    if number:
        raise UsageError(f"mount point {mountpoint}: {os.strerror(number)}; choose another")
    if not stat.S_ISDIR(mode):
        raise UsageError(f"mount point {mountpoint} is no directory: choose another")
    return bool(has_names)


def _look(path: str, *, list_names: bool) -> tuple[int, int, bool]:
    """Returns (errno, mode) of stat, and True if the directory has at least one name."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.EIO, 0, False
    if not list_names:
        return 0, mode, False
    try:
        with os.scandir(path) as names:
            return 0, mode, next(names, None) is not None
    except OSError:
        return 0, mode, False


class Health(Enum):
    """The state of a mount, as seen from outside its daemon."""

    ALIVE = "alive"
    DEAD = "dead"
    """The mount's daemon is gone."""
    SILENT = "silent"
    """The mount's daemon is frozen, or very slow."""


def health(mountpoint: str, seconds: float = LOOK_SECONDS, *, own_session: bool = True) -> Health:
    """Returns the state of a mount; its daemon has `seconds` to answer. `own_session`: as for `ask_one`."""
    answer = ask_one(lambda: errno_of(mountpoint), seconds, own_session=own_session)
    if not answer.came:
        return Health.SILENT
    return Health.DEAD if answer.value in (errno.ENOTCONN, errno.ECONNABORTED) else Health.ALIVE


def errno_of(path: str) -> int:
    """Puts a question to the daemon behind a path. Returns 0 if the daemon has answered, otherwise the errno
    of the failure. May hang for ever: call it in a child process of `bounded_look` only.

    The question is an extended attribute: the kernel never answers that from memory, and the keeper of a
    mount does not answer in the daemon's place, as it does with statfs.
    """
    try:
        os.getxattr(path, "user.pid")
    except OSError as error:
        return 0 if error.errno in _ANSWERS else error.errno or errno.EIO
    return 0


def unmount(mountpoint: str, *, lazy: bool = True) -> None:
    """Unmounts the topmost mount of this directory. Raises InUse, UsageError.

    `lazy`: unmounts even while the mount is in use; programs keep the files that they have open in it.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0) == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EBUSY:
            raise InUse(f"{mountpoint} is in use")
        raise UsageError(f"cannot unmount {mountpoint}: {os.strerror(number)}")
    import shutil  # imported only here: root needs neither module, and the import takes 3 ms
    import subprocess

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
        if "busy" in reason:
            raise InUse(f"{mountpoint} is in use")
        raise UsageError(f"cannot unmount {mountpoint}: {reason}")


def abort(mount: Mount) -> None:
    """Aborts the connection of a mount whose daemon does not answer, and unmounts. Calls that wait in the
    mount fail with ECONNABORTED, and the daemon ends as soon as it runs again. Raises UsageError."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(mount.mountpoint), _MNT_FORCE | _MNT_DETACH) == 0:
            return
    # The device's minor number names the connection; the user who mounted owns this file (fusectl).
    with (
        suppress(OSError),
        open(f"/sys/fs/fuse/connections/{mount.device.partition(':')[2]}/abort", "w") as file,
    ):
        file.write("1")
    unmount(mount.mountpoint)
