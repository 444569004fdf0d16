"""Answers to LOOKUP and READDIRPLUS, packed once and kept as the kernel's bytes.

A cold stat from kept bytes costs half of one from the tree (14 us against 25, client included). They stay
right for as long as their slots live: an image never changes, and for live folders `drop` is told of a new
revision. What is kept is bounded: when it is full it is emptied, and an answer costs its packing once more.
"""

from typing import NamedTuple

LIMIT = 32 << 20
"""Bytes kept, about 90,000 names. The kernel remembers names itself: one is asked again only when it had to
forget it."""
_NAME_COST = 380
"""Bytes of a kept name: tuple 64, bytes of the answer 161, key about 55, its share of the table 100."""
_PAGE_COST = 500


Name = tuple[int, bytes, bool]
"""The answer to one LOOKUP: the number (0: there is no such name), its bytes, and whether the number is one
of `tree.copies`, valid while that row is there. A plain tuple, because the garbage collector stops looking at
those: a full collection over 90,000 others would hold every answer up for 10 ms."""


class Page(NamedTuple):
    """The answer to one READDIRPLUS."""

    body: bytes
    slots: tuple[tuple[int, int], ...]
    """(a number, lookups) for each slot that has names in the page."""
    copies: tuple[int, ...]
    """Numbers of `tree.copies`, one lookup each."""


class Packed:
    """The answers kept. Not thread-safe: used under the filesystem's lock."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self.names: dict[int, dict[bytes, Name]] = {}
        """By number of the folder, then by name."""
        self._pages: dict[int, dict[tuple[int, int], Page]] = {}

    @property
    def size(self) -> int:
        """Bytes charged for what is kept."""
        return self._size

    def keep_name(self, parent: int, name: bytes, answer: Name) -> None:
        """Keeps the answer to a LOOKUP."""
        self._charge(_NAME_COST + len(name))
        self.names.setdefault(parent, {})[name] = answer

    def page(self, number: int, offset: int, size: int) -> Page | None:
        """The kept answer to a READDIRPLUS."""
        pages = self._pages.get(number)
        return pages.get((offset, size)) if pages else None

    def keep_page(self, number: int, offset: int, size: int, page: Page) -> None:
        """Keeps the answer to a READDIRPLUS."""
        self._charge(_PAGE_COST + len(page.body) + 100 * len(page.slots) + 40 * len(page.copies))
        self._pages.setdefault(number, {})[offset, size] = page

    def drop(self, folders: set[int]) -> None:
        """Forgets what was said of these folders. Their charge stays until the next emptying."""
        for number in folders:
            self.names.pop(number, None)
            self._pages.pop(number, None)

    def _charge(self, size: int) -> None:
        if self._size + size > self._limit:
            self.names.clear()
            self._pages.clear()
            self._size = 0
        self._size += size
