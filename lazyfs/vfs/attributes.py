"""The attributes that stat shows of an entry."""

import os
import stat
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry

BLOCK_SIZE = 4096
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class Attributes(NamedTuple):
    """Fields of struct stat. An image has no times other than mtime, so all of them show the mtime."""

    number: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Nanoseconds since 1970, may be negative."""
    rdev: int
    shown: int
    """st_ino and d_ino: `number`, or a shorter one for 32-bit programs (`shown_numbers`)."""

    @property
    def blocks(self) -> int:
        """st_blocks, in units of 512 bytes."""
        return -(-self.size // 512)


def attributes(number: int, entry: Entry, shown: int) -> Attributes:
    """Returns the attributes of an entry known by `number`, which programs see as `shown`."""
    rdev = 0
    if entry.detail and stat.S_IFMT(entry.mode) in _DEVICES:
        rdev = os.makedev(entry.detail >> 32, entry.detail & 0xFFFF_FFFF)
    return Attributes(
        number, entry.mode, entry.nlink, entry.uid, entry.gid, entry.size, entry.mtime, rdev, shown
    )
