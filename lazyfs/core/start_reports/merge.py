"""Merges the objects that many starts of one program touched into one list. Pure.

An object is kept if at least a third of the starts touched it. So false reports of less than a third of the
starts add nothing. Each start counts once for an object. So the kept objects have at most three times the
bytes of a mean start, whatever share of the reports is false. They are also cut to twice the bytes of the
median start, which false reports do not raise while they are fewer than half.
"""

from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Final

import msgspec

from lazyfs.core.digest import Digest

PART: Final = 3
"""An object is kept if at least one in this many starts touched it."""
MOST_BYTES: Final = 2
"""The kept objects together have at most this many times the bytes of the median start. Honest starts of one
program touch nearly the same objects, so they stay far below that."""
MOST_STARTS: Final = 512
"""The number of counted starts at which all counts are halved. So what programs touch today counts more than
what they touched a year ago, and no count grows without a bound."""
_FIRST = 1 << 16


class Voices(msgspec.Struct):
    """The starts of one program that have been counted."""

    starts: int = 0
    touched: dict[Digest, tuple[int, int]] = {}
    """Maps an object to the number of starts that touched it and the sum of its positions in these starts. A
    position is scaled to the range from 0 (first) to 65,535 (last)."""
    sizes: list[int] = []
    """The number of bytes that each start touched."""

    def count(self, items: Sequence[Digest], size: int) -> None:
        """Counts a start. `items`: the objects that it touched, in order; a repeated object counts once.
        `size`: the bytes of these objects."""
        if self.starts >= MOST_STARTS:
            self._halve()
        distinct = dict.fromkeys(items)
        for place, item in enumerate(distinct):
            starts, places = self.touched.get(item, (0, 0))
            self.touched[item] = starts + 1, places + place * _FIRST // len(distinct)
        self.starts += 1
        self.sizes.append(size)

    def kept(self, size_of: Callable[[Digest], int]) -> list[Digest]:
        """Returns the objects to keep, in the mean order of the starts. If they have more bytes than
        MOST_BYTES allows, the objects that the fewest starts touched are left out. `size_of` returns the
        bytes of an object."""
        if not self.starts:
            return []
        left = MOST_BYTES * median_low(self.sizes)
        wanted = [item for item, (starts, _) in self.touched.items() if starts * PART >= self.starts]
        kept = []
        for item in sorted(wanted, key=lambda item: (-self.touched[item][0], self._place(item), item)):
            size = size_of(item)
            if size <= left:
                left -= size
                kept.append(item)
        return sorted(kept, key=lambda item: (self._place(item), item))

    def _place(self, item: Digest) -> float:
        starts, places = self.touched[item]
        return places / starts

    def _halve(self) -> None:
        self.starts //= 2
        self.sizes = self.sizes[len(self.sizes) - self.starts :]
        halves = {item: (starts // 2, places // 2) for item, (starts, places) in self.touched.items()}
        self.touched = {item: half for item, half in halves.items() if half[0]}
