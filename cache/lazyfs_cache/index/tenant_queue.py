"""One tenant's values that may be evicted, within one transaction: the queue that LRU and SIEVE work on."""

from collections.abc import Callable, Iterator

from lazyfs_cache.index.faults import IndexDamaged
from lazyfs_cache.index.queue import Queue
from lazyfs_cache.index.rows import Entry, Tenant
from lazyfs_cache.policy.eviction import Queued


class TenantQueue:
    """An `EvictionQueue` over the tables."""

    def __init__(
        self,
        number: int,
        tenant: Tenant,
        queue: Queue,
        entry: Callable[[bytes], Entry | None],
        write: Callable[[bytes, Entry], None],
    ) -> None:
        self._number = number
        self._tenant = tenant
        self._queue = queue
        self._entry = entry
        self._write = write

    @property
    def hand(self) -> int:
        """SIEVE: the tick that the tenant's hand has reached (`policy.eviction`)."""
        return self._tenant.hand

    @hand.setter
    def hand(self, tick: int) -> None:
        self._tenant.hand = tick

    def queued_from(self, tick: int) -> Iterator[Queued]:
        """Yields the values that may be evicted with this tick and later ones, in their order."""
        return self._queue.queued_from(self._number, tick)

    def tick_after(self, tick: int) -> int:
        """Returns the next tick in the queue; 0, which stands for the queue's beginning, if `tick` is the
        last."""
        return self._queue.tick_after(self._number, tick)

    def marked(self, value: Queued) -> bool:
        """SIEVE: True if the value was used since it came or the hand last passed it."""
        return self._entry_queued(value).visited

    def clear_mark(self, value: Queued) -> None:
        """SIEVE: removes the mark of a value, because the hand passes over it."""
        self._write(value.key, self._entry_queued(value)._replace(visited=False))

    def _entry_queued(self, value: Queued) -> Entry:
        entry = self._entry(value.key)
        if entry is None:
            raise IndexDamaged(f"the queue names {value.key.hex()}, which has no entry")
        return entry
