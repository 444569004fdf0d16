"""Inode numbers: (slot, index) in 64 bits, so that no table grows with every file.

The slot names a catalog and the path it hangs at; the index is the entry's place in the catalog. Number 1,
the root of every FUSE filesystem, is the mount's top folder, whatever slot that folder has; slot 0 is never
allotted.
"""

from lazyfs.core.errors import FormatError

ROOT = 1
SPREAD = 0x8000_0000
"""The bit set in the index of a hardlink group with names in several catalogs. The other bits are the group's
id, and the slot is that of its snapshot's top catalog. Catalogs hold fewer than 2**31 entries."""
_INDEX = 0xFFFF_FFFF


def pack(slot: int, index: int) -> int:
    """Returns the number of entry `index` of the catalog in `slot`. Raises FormatError for an index that
    would lead into another slot."""
    if not 0 <= index <= _INDEX:
        raise FormatError(f"entry {index} of a catalog has no inode number")
    return slot << 32 | index


def unpack(number: int) -> tuple[int, int]:
    """Returns (slot, index) of a number."""
    return number >> 32, number & _INDEX
