"""Looks up and opens paths below a directory that a stranger has filled, without leaving the directory.

If the kernel has openat2 (Linux 5.6), it resolves the whole path. Otherwise each step is taken by descriptor,
one name at a time and never through a link, so that a name which changes meanwhile cannot lead outside.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Collection
from contextlib import closing
from typing import NamedTuple

_SYS_OPENAT2 = 437  # the same on every architecture that Python runs on, except alpha
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10
_NOT_THERE = frozenset({errno.ENOSYS, errno.EPERM})
"""The errors of a kernel without openat2, and of a container's filter that does not know the call."""
_CHANGED = errno.EAGAIN
"""The error of openat2 after a rename while it resolved `..`."""
MAX_LINKS = 40
"""The largest number of links on one path, as in the kernel; more give ELOOP."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Location(NamedTuple):
    """The place at which a walk along a path has ended: the path's end, or the end of its existing part."""

    found: str
    """The longest part of the path that exists, or the stop (`locate`) at which the walk ended. Absolute
    below the root, free of links."""
    rest: tuple[str, ...]
    """The names after `found`: missing ones, or those inside the stop."""
    mode: int
    """st_mode of `found`; 0 at a stop."""
    stopped: bool
    linked: bool
    """True if a link was followed on the way."""


def open_in_root(root: int, path: str, flags: int) -> int:
    """Opens a path as seen by a process whose root directory is the descriptor `root`: absolute links and
    `..` stay inside. Links of /proc that lead to open files are not followed. Raises OSError."""
    try:
        return _openat2(root, path, flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno not in _NOT_THERE and error.errno != _CHANGED:
            raise
    place = locate(root, path)
    if place.rest:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return open_without_links(root, place.found, flags)


def open_without_links(directory: int, path: str, flags: int) -> int:
    """Opens a path below the descriptor `directory`. Raises OSError: ELOOP, ENOTDIR or EXDEV if a link or
    `..` is on the way."""
    names = _names(path)
    if ".." in names:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    try:
        return _openat2(directory, "/".join(names) or ".", flags, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno not in _NOT_THERE and error.errno != _CHANGED:
            raise
    with closing(_Descriptor(directory)) as here:
        here.descend(names[:-1])
        return os.open(names[-1] if names else ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here.number)


def locate(root: int, path: str, stops: Collection[str] = ()) -> Location:
    """Follows a path inside the directory `root`, a descriptor, as far as it exists.

    `stops`: absolute paths below the root, free of links, at which another filesystem is mounted: the walk
    ends there although more names follow, and although the root itself may lack the path. Raises OSError:
    ELOOP for a loop, ENOTDIR for a path that continues below a file, ENOENT if `..` follows a name that does
    not exist, and errors of the filesystem.
    """
    pending = [*reversed(_names(path))]
    names: list[str] = []
    links = 0
    mode = stat.S_IFDIR
    with closing(_Descriptor(root)) as here:
        while pending:
            part = pending.pop()
            if part == "..":
                names = names[:-1]
                here.restart(names)
                continue
            candidate = "/" + "/".join((*names, part))
            rest = tuple(reversed(pending))
            if candidate in stops:
                return Location(candidate, rest, 0, stopped=True, linked=links > 0)
            try:
                here.step(part)
            except FileNotFoundError:
                stop = _stop_below(candidate, rest, stops)
                if stop is not None:
                    return Location(stop[0], stop[1], 0, stopped=True, linked=links > 0)
                if ".." in rest:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), candidate) from None
                return Location("/" + "/".join(names), (part, *rest), mode, stopped=False, linked=links > 0)
            status = os.fstat(here.number)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), candidate)
                target = os.readlink("", dir_fd=here.number)
                names = [] if target.startswith("/") else names
                here.restart(names)
                pending.extend(reversed(_names(target)))
            elif pending and not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), candidate)
            else:
                names.append(part)
                mode = status.st_mode
    return Location("/" + "/".join(names), (), mode, stopped=False, linked=links > 0)


def _stop_below(
    path: str, rest: tuple[str, ...], stops: Collection[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Returns (stop, the names after it) for the first stop on the way from a missing `path` along the names
    in `rest`; None if there is none. A mount point may be missing in the root."""
    for number, name in enumerate(rest):
        path = f"{path}/{name}"
        if name == "..":
            return None
        if path in stops:
            return path, rest[number + 1 :]
    return None


def _names(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class _Descriptor:
    """The directory that a walk has reached. Holds one descriptor at a time: a path may have 2,000 steps."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.number = os.dup(root)

    def step(self, name: str) -> None:
        """Goes to a name in the directory; does not follow a link, but goes to the link itself."""
        following = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.number)
        os.close(self.number)
        self.number = following

    def descend(self, names: list[str]) -> None:
        """Goes down through directories of these names. Raises OSError, ENOTDIR for a link."""
        for name in names:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
            following = os.open(name, flags, dir_fd=self.number)
            os.close(self.number)
            self.number = following

    def restart(self, names: list[str]) -> None:
        """Goes back to the root, and from there down through directories of these names."""
        os.close(self.number)
        self.number = os.dup(self._root)
        self.descend(names)

    def close(self) -> None:
        os.close(self.number)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    number = libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(name),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return int(number)
