"""The order in which a tenant's values are evicted, by LRU or SIEVE, and the number evicted at once.

Both work on a queue of values in the order of their ticks. LRU moves a value to the end of the queue when it
is used and evicts from the front. SIEVE leaves a value at its place, marks it when it is used, and moves a
hand along the queue.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lazyfs_cache.policy.limits import Shortfall
from lazyfs_cache.policy.sizes import EVICTED_PER_TRANSACTION, PASSES


class Queued(NamedTuple):
    """One value that may be evicted, with everything that its eviction needs."""

    tick: int
    """The value's place in the queue; no two values have the same."""
    charge: int
    """Bytes of disk that are free once the value is gone."""
    key: bytes
    tenant: int = 0
    """The number of the tenant that the value belongs to."""


class EvictionQueue(Protocol):
    """A tenant's values that may be evicted, in the order of their ticks, with SIEVE's marks and hand."""

    @property
    def hand(self) -> int:
        """SIEVE: the tick that the hand has reached."""
        ...

    @hand.setter
    def hand(self, tick: int) -> None: ...

    def queued_from(self, tick: int) -> Iterator[Queued]:
        """Yields the values with this tick and later ones, in their order. `clear_mark` may be called
        meanwhile."""
        ...

    def tick_after(self, tick: int) -> int:
        """Returns the next tick in the queue; 0, which stands for the queue's beginning, if `tick` is the
        last."""
        ...

    def marked(self, value: Queued) -> bool:
        """Returns True if the value was used since it came or the hand last passed it."""
        ...

    def clear_mark(self, value: Queued) -> None: ...


def lru(queue: EvictionQueue) -> Iterator[Queued]:
    """Yields the values in the order of their last use, the least recently used first."""
    return queue.queued_from(0)


def sieve(queue: EvictionQueue, passes: int = PASSES) -> Iterator[Queued]:
    """Yields the values in SIEVE's order (Zhang et al., NSDI 2024): from the hand towards newer values, then
    from the oldest again. A value that was used since the hand last passed it is passed over, once.

    Ends after passing over `passes` values: each cleared mark changes another leaf of the index, and no
    eviction may walk over a million entries. If the queue has any value, at least one is given.
    """
    taken: set[int] = set()
    begin, end = queue.hand, 1 << 63
    for start, stop in ((begin, end), (0, begin)) * 2:
        for value in queue.queued_from(start):
            if value.tick >= stop:
                break
            if value.tick in taken:
                continue
            marked = queue.marked(value)
            if marked and passes:
                passes -= 1
                queue.clear_mark(value)
            elif marked and taken:
                queue.hand = value.tick
                return
            else:
                taken.add(value.tick)
                after = queue.tick_after(value.tick)
                while after in taken:  # it goes too, and a value that comes later must not take its turn
                    after = queue.tick_after(after)
                queue.hand = after
                yield value


def choose(order: Iterator[Queued], shortfall: Shortfall) -> list[Queued]:
    """Returns the first values of `order`: as many as free the bytes and entries of `shortfall`, but
    EVICTED_PER_TRANSACTION at most, and no more than `order` has."""
    chosen: list[Queued] = []
    freed = 0
    while len(chosen) < EVICTED_PER_TRANSACTION and (
        freed < shortfall.bytes or len(chosen) < shortfall.entries
    ):
        value = next(order, None)
        if value is None:
            break
        chosen.append(value)
        freed += value.charge
    return chosen
