"""The eviction orders without disk, database or clock, as a simulation uses them."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.cache.policies import Lru, Policy, Sieve
from lazyfs_cache.policy import sizes
from lazyfs_cache.policy.eviction import Queued, choose, lru, sieve
from lazyfs_cache.policy.limits import Shortfall
from tests.support.counts import count


class MemoryQueue:
    """An eviction queue in memory. Values are sorted by tick, the time of their last use; keys that SIEVE
    must pass over are marked."""

    def __init__(self) -> None:
        self.hand = 0
        self.marks: set[bytes] = set()
        self.ticks: list[int] = []
        self.values: dict[int, Queued] = {}
        self.places: dict[bytes, int] = {}

    def add(self, tick: int, charge: int, key: bytes) -> None:
        insort(self.ticks, tick)
        self.values[tick] = Queued(tick, charge, key)
        self.places[key] = tick

    def remove(self, key: bytes) -> Queued:
        tick = self.places.pop(key)
        self.ticks.remove(tick)
        self.marks.discard(key)
        return self.values.pop(tick)

    def queued_from(self, tick: int) -> Iterator[Queued]:
        for found in self.ticks[bisect_left(self.ticks, tick) :]:
            yield self.values[found]

    def tick_after(self, tick: int) -> int:
        later = bisect_left(self.ticks, tick + 1)
        return self.ticks[later] if later < len(self.ticks) else 0

    def marked(self, value: Queued) -> bool:
        return value.key in self.marks

    def clear_mark(self, value: Queued) -> None:
        self.marks.discard(value.key)


class MemoryCache:
    """A cache of `capacity` bytes in memory that follows an eviction order, for simulations."""

    def __init__(self, capacity: int, order: Callable[[MemoryQueue], Iterator[Queued]]) -> None:
        self.capacity = capacity
        self.used = 0
        self.queue = MemoryQueue()
        self._order = order
        self._tick = 0

    def request(self, number: int, size: int) -> bool:
        key = number.to_bytes(4, "big")
        self._tick += 1
        if key in self.queue.places:
            if self._order is lru:
                self.queue.add(self._tick, self.queue.remove(key).charge, key)
            else:
                self.queue.marks.add(key)
            return True
        if size > self.capacity:
            return False
        while self.used + size > self.capacity:
            chosen = choose(self._order(self.queue), Shortfall(self.used + size - self.capacity, 0))
            assert chosen
            for value in chosen:
                self.queue.remove(value.key)
                self.used -= value.charge
        self.queue.add(self._tick, size, key)
        self.used += size
        return False


REQUESTS = st.lists(st.integers(0, 15), max_size=300)
SIZES = st.lists(st.integers(1, 9), min_size=16, max_size=16)


@pytest.mark.parametrize(("order", "plain"), [(lru, Lru), (sieve, Sieve)])
@given(requests=REQUESTS, sizes_of=SIZES, room=st.integers(9, 60))
@example(requests=[0, 0, 3, 3, 1, 2, 1, 0], sizes_of=[3] * 16, room=9)  # evicts the newest: the hand wraps
@example(  # evicts the value before those that it has evicted already: the hand wraps too
    requests=[0, 0, 3, 6, 6, 7, 1, 2, 3, 4, 5, 8, 9, 0, 1, 3, 6, 15, 1, 0], sizes_of=[1] * 15 + [6], room=9
)
@settings(max_examples=count(200, 5000))
def test_the_orders_are_those_of_the_plain_policies(
    order: Callable[[MemoryQueue], Iterator[Queued]],
    plain: Callable[[int], Policy],
    requests: list[int],
    sizes_of: list[int],
    room: int,
) -> None:
    """Hits and misses equal those of the benchmark's simple policies, which evict one value at a time. The
    cache's orders choose all values to evict for a new value at once."""
    expected, tested = plain(room), MemoryCache(room, order)
    for number in requests:
        assert tested.request(number, sizes_of[number]) == expected.request(number, sizes_of[number])
        assert tested.used <= room


@given(
    marked=st.lists(st.booleans(), max_size=60),
    hand=st.integers(0, 70),
    passes=st.integers(0, 70),
    wanted=st.integers(1, 80),
)
def test_sieve_names_each_value_once_and_passes_over_so_many_and_no_more(
    marked: list[bool], hand: int, passes: int, wanted: int
) -> None:
    queue = MemoryQueue()
    for number, mark in enumerate(marked):
        queue.add(number + 1, 1, bytes((number,)))
        if mark:
            queue.marks.add(bytes((number,)))
    queue.hand = hand
    before = set(queue.marks)
    chosen = [value.key for value in islice(sieve(queue, passes), wanted)]
    assert len(set(chosen)) == len(chosen)
    assert len(before - queue.marks) <= passes
    assert chosen or not marked, "one goes all the same"
    if passes > len(marked):
        assert len(chosen) == min(wanted, len(marked)), "all may go in the end"


@given(st.lists(st.integers(1, 100), max_size=100), st.integers(-10, 2000), st.integers(-10, 100))
def test_no_more_goes_than_meets_the_shortfall(charges: list[int], missing: int, entries: int) -> None:
    order = [Queued(tick, charge, b"%d" % tick) for tick, charge in enumerate(charges)]
    chosen = choose(iter(order), Shortfall(missing, entries))
    freed = sum(value.charge for value in chosen)
    assert chosen == order[: len(chosen)]
    if Shortfall(missing, entries).met:
        assert chosen == []
    elif len(chosen) < min(len(order), sizes.EVICTED_PER_TRANSACTION):
        assert freed >= missing
        assert len(chosen) >= entries
    if chosen:
        assert freed - chosen[-1].charge < missing or len(chosen) - 1 < entries, "the last was needed"
