"""Paths below a directory that a stranger has filled: looked up and opened without leaving it.

Where the kernel has openat2 (Linux 5.6) it does the whole way; elsewhere each step is taken by descriptor,
one name at a time and never through a link, so that a name which changes meanwhile leads nowhere else either.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Collection
from contextlib import closing
from typing import NamedTuple

_SYS_OPENAT2 = 437  # the same on every architecture that Python runs on but alpha
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10
_NOT_THERE = frozenset({errno.ENOSYS, errno.EPERM})
"""Answers of a kernel without the call, and of a container's filter that does not know it."""
_CHANGED = errno.EAGAIN
"""The kernel saw a rename while it resolved `..`."""
MAX_LINKS = 40
"""As the kernel has it: ELOOP above."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Location(NamedTuple):
    """The end of a path, or of its part that exists."""

    found: str
    """Absolute below the root and free of links: the longest part that exists, or one of the stops."""
    rest: tuple[str, ...]
    """The names that follow it: missing ones, or those inside the stop."""
    mode: int
    """st_mode of `found`; 0 at a stop."""
    stopped: bool
    linked: bool
    """A link was followed on the way."""


def open_in_root(root: int, path: str, flags: int) -> int:
    """Opens a path as a process would whose root directory is the descriptor `root`: absolute links and `..`
    stay inside. Links of /proc that lead to open files are not followed. Raises OSError."""
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
    """Opens a path below the descriptor `directory`. Raises OSError: ELOOP, ENOTDIR or EXDEV where a link or
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

    `stops` are absolute paths below the root, free of links, at which it ends although more names follow:
    something else is mounted there. Raises OSError: ELOOP for a loop, ENOTDIR for a path that goes on below a
    file, what the filesystem says, and ENOENT where `..` follows a name that does not exist.
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


def _names(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class _Descriptor:
    """The directory that a walk has reached. One descriptor at a time: a path may have 2,000 steps."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.number = os.dup(root)

    def step(self, name: str) -> None:
        """Goes to a name in the directory; a link is not followed but stood upon."""
        following = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.number)
        os.close(self.number)
        self.number = following

    def descend(self, names: list[str]) -> None:
        """Goes through directories. Raises OSError, ENOTDIR for a link."""
        for name in names:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
            following = os.open(name, flags, dir_fd=self.number)
            os.close(self.number)
            self.number = following

    def restart(self, names: list[str]) -> None:
        """Goes back to the root, and from there through directories."""
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
