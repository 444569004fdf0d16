"""The next pack of a layer for a reader who takes one after the other. Pure.

A layer's files lie in its packs in the order of its archive, and a catalog's table of packs keeps that order
by and large. Steps from a missed pack to one of the next, one step after the other, show a reader on its way
through the layer: an archiver, a search. PROOF such steps are needed: when one was enough, a start of an
analysis fetched 15 packs more to wait for 3 less.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import ObjectRef
from lazyfs.core.pack import PackTable

TABLES: Final = 256
"""The largest number of catalogs that are remembered."""
PROOF: Final = 3
"""Number of steps in a row, each from one pack to one of the next, that show a reader on its way through a
layer."""
AHEAD: Final = 2
"""The largest number of packs that are fetched ahead of a reader on its way through a layer."""


class NextPacks:
    """Follows the misses in each catalog's packs. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        """The pack missed last and the number of steps in a row, for each catalog's table of packs; the key
        is the first 64 bytes of the table."""

    def missed(self, packs: PackTable, number: int) -> list[ObjectRef]:
        """Returns the packs to fetch after a miss in pack `number` of a table: the next AHEAD ones, if each
        of the last PROOF misses was a step forward by at most AHEAD + 1 packs; otherwise none."""
        key = packs.encoded[:64]
        last, streak = self._last.pop(key, (number, 0))
        streak = streak + 1 if 0 < number - last <= AHEAD + 1 else 0
        self._last[key] = number, streak
        if len(self._last) > TABLES:
            self._last.popitem(last=False)
        if streak < PROOF:
            return []
        return [packs[at] for at in range(number + 1, min(number + 1 + AHEAD, len(packs)))]
