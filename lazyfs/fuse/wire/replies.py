"""Answers and notifications as the kernel's bytes. Pure."""

import errno

from lazyfs.core.catalog.entry import NAME_MAX
from lazyfs.fuse.session import FOREVER, StatvfsFields
from lazyfs.fuse.wire.protocol import (
    ATTR_OUT,
    DIRENT,
    DIRENTPLUS,
    ENTRY_OUT,
    GETXATTR_OUT,
    INVAL_ENTRY_OUT,
    INVAL_INODE_OUT,
    KSTATFS,
    NOTIFY_INVAL_ENTRY,
    NOTIFY_INVAL_INODE,
    OUT_HEADER,
)
from lazyfs.vfs.attributes import BLOCK_SIZE, Attributes

_SECOND = 1_000_000_000


def entry(found: Attributes) -> bytes:
    """Returns the answer to LOOKUP of an existing name, valid for ever."""
    number, mode, nlink, uid, gid, size, mtime, rdev, shown = found
    seconds, rest = divmod(mtime, _SECOND)
    return ENTRY_OUT.pack(
        number, 0, FOREVER, FOREVER, 0, 0,
        shown, size, -(-size // 512), seconds, seconds, seconds, rest, rest, rest,
        mode, nlink, uid, gid, rdev & 0xFFFF_FFFF, BLOCK_SIZE, 0,
    )  # fmt: skip


MISSING_ENTRY = ENTRY_OUT.pack(0, 0, FOREVER, *[0] * 19)
"""The answer to LOOKUP of a missing name. The kernel remembers this answer, but would not remember ENOENT."""


def attr(found: Attributes) -> bytes:
    """Returns the answer to GETATTR, valid for ever."""
    _, mode, nlink, uid, gid, size, mtime, rdev, shown = found
    seconds, rest = divmod(mtime, _SECOND)
    return ATTR_OUT.pack(
        FOREVER, 0, 0,
        shown, size, -(-size // 512), seconds, seconds, seconds, rest, rest, rest,
        mode, nlink, uid, gid, rdev & 0xFFFF_FFFF, BLOCK_SIZE, 0,
    )  # fmt: skip


def dirent(number: int, mode: int, after: int, name: bytes) -> bytes:
    """Returns one line of READDIR, with the inode number that programs see. `after`: the offset of the next
    line."""
    length = len(name)
    return DIRENT.pack(number, after, length, mode >> 12) + name + bytes(-length & 7)


def direntplus(found: Attributes, after: int, name: bytes) -> bytes:
    """Returns one line of READDIRPLUS, which counts as a lookup of the name."""
    number, mode, nlink, uid, gid, size, mtime, rdev, shown = found
    seconds, rest = divmod(mtime, _SECOND)
    length = len(name)
    return (
        DIRENTPLUS.pack(
            number, 0, FOREVER, FOREVER, 0, 0,
            shown, size, -(-size // 512), seconds, seconds, seconds, rest, rest, rest,
            mode, nlink, uid, gid, rdev & 0xFFFF_FFFF, BLOCK_SIZE, 0,
            shown, after, length, mode >> 12,
        ) + name + bytes(-length & 7)
    )  # fmt: skip


NO_ENTRY = bytes(ENTRY_OUT.size)
"""The head of a line of READDIRPLUS that counts as no lookup: `.` and `..`."""


def statfs(space: StatvfsFields) -> bytes:
    """Returns the answer to STATFS."""
    free = space.bfree
    return KSTATFS.pack(space.blocks, free, free, space.files, 0, space.bsize, space.namemax, space.frsize, 0)


def empty_statfs() -> bytes:
    """Returns the answer to STATFS of a filesystem of which nothing is known: full, without files."""
    return KSTATFS.pack(0, 0, 0, 0, 0, BLOCK_SIZE, NAME_MAX, BLOCK_SIZE, 0)


def xattr(value: bytes, room: int) -> bytes:
    """Returns the answer to GETXATTR or LISTXATTR for a caller that offers `room` bytes: the value, or its
    size if `room` is 0. Raises OSError, ERANGE, if the value does not fit."""
    if room == 0:
        return GETXATTR_OUT.pack(len(value), 0)
    if len(value) > room:
        raise OSError(errno.ERANGE, "the value does not fit")
    return value


def error(number: int, unique: int) -> bytes:
    """Returns an answer, header included, that has only an errno (0: done)."""
    return OUT_HEADER.pack(OUT_HEADER.size, -number, unique)


def inval_inode(number: int) -> bytes:
    """Returns a notification, header included, that drops attributes and all pages of an inode."""
    body = INVAL_INODE_OUT.pack(number, 0, 0)
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), NOTIFY_INVAL_INODE, 0) + body


def inval_entry(parent: int, name: bytes) -> bytes:
    """Returns a notification, header included, that drops a name and its answer."""
    body = INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0"
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), NOTIFY_INVAL_ENTRY, 0) + body
