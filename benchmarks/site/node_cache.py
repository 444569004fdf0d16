"""A node's cache on the simulated clock: the bounds and the choice of what goes are the cache's own code, on
queues in memory."""

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from lazyfs_cache.policy.eviction import Queued, choose, lru
from lazyfs_cache.policy.limits import FreeSpace, Limits
from lazyfs_cache.policy.shares import Stake, by_share

_FIXED: Final = 64 << 10
_INDEX: Final = 360
"""Bytes of the index for one object, of which a key has one row."""
_MANY: Final = 1 << 50
_BLOCK: Final = 4096
_LOOK: Final = 256
"""Values that are looked at for one eviction, which takes fewer."""
_TICKS: Final = 1_000_000
"""Ticks in a second."""


def charge_of(plain: int) -> int:
    """Returns the bytes of disk that an object of `plain` bytes occupies, in whole blocks, with its trailer
    (8 bytes for each 64 KiB, and 64 more)."""
    return -(-(plain + 8 * (plain // 65536 + 1) + 64) // _BLOCK) * _BLOCK


class Held(NamedTuple):
    """The charges of a cache, as `lazyfs_cache.policy.limits.Charges` wants them."""

    limit: int
    entries: int
    charged: int
    pinned: int = 0
    reserved: int = 0
    directories: int = 0
    pin_sets: int = 0


class NodeCache:
    """Values by number, least recently used first. A value stands for objects that every reader reads
    together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limits = Limits(self, keep_free=0, arriving=0)
        self._ticks: OrderedDict[int, int] = OrderedDict()
        """Value -> the tick of its last use, in the order of ticks."""
        self._charges: dict[int, tuple[int, int]] = {}
        """Value -> bytes, objects."""
        self._charged = self._objects = 0
        self._tick = 0
        self.evicted = 0
        """Number of objects evicted."""

    def has(self, value: int) -> bool:
        """Returns True if the value is here, and does not count a use."""
        return value in self._ticks

    def use(self, value: int, now: float) -> bool:
        """Returns True if the value is here, and counts the use."""
        if value not in self._ticks:
            return False
        self._ticks[value] = self._next_tick(now)
        self._ticks.move_to_end(value)
        return True

    def put(self, value: int, charge: int, objects: int, now: float) -> bool:
        """Admits a value of `objects` objects. Returns False if there can be no room for it."""
        if value in self._ticks:
            return True
        if not self._limits.possible(self._held(), charge):
            return False
        shortfall = self._limits.shortfall(self._held(), charge)
        while not shortfall.met:
            for gone in self._chosen(shortfall.bytes, now):
                self._remove(gone)
            shortfall = self._limits.shortfall(self._held(), charge)
        self._ticks[value] = self._next_tick(now)
        self._charges[value] = charge, objects
        self._charged += charge
        self._objects += objects
        return True

    def _chosen(self, wanted: int, now: float) -> list[Queued]:
        stakes = [Stake(self._charged, lru(self))]
        shortfall = self._limits.shortfall(self._held(), 0)._replace(bytes=wanted)
        return choose(by_share(stakes, int(now * _TICKS)), shortfall)

    def _remove(self, gone: Queued) -> None:
        value = int.from_bytes(gone.key, "big")
        del self._ticks[value]
        charge, count = self._charges.pop(value)
        self._charged -= charge
        self._objects -= count
        self.evicted += count

    def _next_tick(self, now: float) -> int:
        self._tick = max(self._tick + 1, int(now * _TICKS))
        return self._tick

    def _held(self) -> Held:
        return Held(self._limit, self._objects, self._charged)

    @property
    def charged(self) -> int:
        """Returns the bytes that the cache counts as occupied."""
        return self._limits.charged(self._held())

    # the EvictionQueue that lru() works on; SIEVE's part is not used

    hand = 0

    def queued_from(self, tick: int) -> Iterator[Queued]:
        """Yields the values in the order of their ticks, all of them later than `tick`."""
        assert tick == 0
        first = list(itertools.islice(self._ticks.items(), _LOOK))
        return (Queued(at, self._charges[value][0], value.to_bytes(8, "big")) for value, at in first)

    def tick_after(self, tick: int) -> int:
        raise NotImplementedError(tick)

    def marked(self, value: Queued) -> bool:
        raise NotImplementedError(value)

    def clear_mark(self, value: Queued) -> None:
        raise NotImplementedError(value)

    # the Measures of a directory

    def fixed(self) -> int:
        return _FIXED

    def index_file(self) -> int:
        return _INDEX * self._objects

    def index_entries(self) -> int:
        return _MANY

    def free(self) -> FreeSpace:
        return FreeSpace(_MANY, 0, 0)
