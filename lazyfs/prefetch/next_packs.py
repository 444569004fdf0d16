"""The next pack of a layer for a reader who takes one after the other. Pure.

A layer's files lie in its packs in the order of its archive, and a catalog's table of packs keeps that order
by and large. Two packs with neighbouring numbers, missed one after the other, are a reader on its way through
the layer: an archiver, a search, an import of a whole package.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import ObjectRef
from lazyfs.core.pack import PackTable

TABLES: Final = 256
"""Catalogs remembered."""
AHEAD: Final = 2
"""Packs fetched ahead of such a reader."""


class NextPacks:
    """Follows the misses in each catalog's packs. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()
        """The pack missed last, by a catalog's table of packs."""

    def missed(self, packs: PackTable, number: int) -> list[ObjectRef]:
        """Returns the packs to fetch after a miss in pack `number` of a table: the next AHEAD ones, if the
        miss before was in one of the AHEAD + 1 packs before this one."""
        key = packs.encoded[:64]
        last = self._last.pop(key, None)
        self._last[key] = number
        if len(self._last) > TABLES:
            self._last.popitem(last=False)
        if last is None or not 0 < number - last <= AHEAD + 1:
            return []
        return [packs[at] for at in range(number + 1, min(number + 1 + AHEAD, len(packs)))]
