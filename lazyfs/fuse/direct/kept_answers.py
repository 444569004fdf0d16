"""Answers to LOOKUP and READDIRPLUS, packed once and kept as the kernel's bytes.

A cold stat from kept bytes costs the daemon half of one from the tree. Kept answers stay right for as long as
their slots live: an image never changes, and a new revision drops the answers about the live folders that it
changes. Their bytes are bounded: a full table is emptied, and each answer has to be packed once more.
"""

import sys
from typing import NamedTuple

LIMIT = 32 << 20
"""The largest number of bytes kept: about 80,000 names. The kernel remembers names itself: it asks again only
for the ones that it had to forget."""
_NAME_COST = 400
"""Bytes of a kept name: tuple 56, bytes of the answer 161, key about 65, its shares of the tables 110."""
_PAGE_COST = 500

MISSING, SHARED = 0, -1
"""Values in place of the slot in a KeptName. MISSING: the answer is that the name is missing. SHARED: the
name is a file whose inode number several images share (`tree.shared_files`)."""
KeptName = tuple[int, bytes]
"""The answer to one LOOKUP: the slot of the inode number in the answer, and the answer's bytes. A tuple of
plain values, because the garbage collector stops looking at those: a full collection over 80,000 other
objects would hold every answer up for 10 ms."""


def key(parent: int, name: bytes) -> bytes:
    """Returns the key of a kept LOOKUP: the folder's inode number in eight bytes, then the name with the zero
    byte that ends it, as the request has them."""
    return parent.to_bytes(8, sys.byteorder) + name + b"\0"


class KeptPage(NamedTuple):
    """The answer to one READDIRPLUS."""

    body: bytes
    slots: tuple[tuple[int, int], ...]
    """For each slot with inodes in the page: an inode number of the slot, and the number of lookups of the
    slot's inodes that the page counts as. A READDIRPLUS counts as a lookup of each name."""
    shared_files: tuple[int, ...]
    """The inode numbers in the page that several images share (`tree.shared_files`): one lookup each."""


class KeptAnswers:
    """The answers kept. Not thread-safe: used under the filesystem's lock."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self.names: dict[bytes, KeptName] = {}
        """The kept answer to LOOKUP of each name, by `key`. One table serves all folders: reads come in any
        order, and a second table would be a second cache miss of the processor."""
        self._keys: dict[int, list[bytes]] = {}
        """The keys of the kept names of each folder, by the folder's inode number."""
        self._pages: dict[int, dict[tuple[int, int], KeptPage]] = {}

    @property
    def size(self) -> int:
        """The number of bytes charged for the kept answers."""
        return self._size

    def keep_name(self, parent: int, name: bytes, answer: KeptName) -> None:
        """Keeps the answer to a LOOKUP."""
        kept_as = key(parent, name)
        if kept_as not in self.names:
            self._charge(_NAME_COST + len(name))
            self._keys.setdefault(parent, []).append(kept_as)
        self.names[kept_as] = answer

    def page(self, number: int, offset: int, size: int) -> KeptPage | None:
        """Returns the kept answer to a READDIRPLUS; None if there is none."""
        pages = self._pages.get(number)
        return pages.get((offset, size)) if pages else None

    def keep_page(self, number: int, offset: int, size: int, page: KeptPage) -> None:
        """Keeps the answer to a READDIRPLUS."""
        self._charge(_PAGE_COST + len(page.body) + 100 * len(page.slots) + 40 * len(page.shared_files))
        self._pages.setdefault(number, {})[offset, size] = page

    def drop(self, folders: set[int]) -> None:
        """Forgets the answers about these folders. Their bytes stay charged until the whole table is
        emptied."""
        for number in folders:
            for kept_as in self._keys.pop(number, ()):
                del self.names[kept_as]
            self._pages.pop(number, None)

    def resize(self, limit: int) -> None:
        """Sets another limit; forgets everything if the kept bytes exceed it."""
        self._limit = limit
        self._charge(0)

    def _charge(self, size: int) -> None:
        if self._size and self._size + size > self._limit:
            self.names.clear()
            self._keys.clear()
            self._pages.clear()
            self._size = 0
        self._size += size
