"""The policy without disk, database or clock, as a simulation runs it: orders, bounds, waiting."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.cache.policies import Lru, Policy, Sieve
from lazyfs_cache.policy import sizes
from lazyfs_cache.policy.eviction import Queued, choose, lru, sieve
from lazyfs_cache.policy.limits import FreeSpace, Limits, Shortfall
from lazyfs_cache.policy.waiting import BRIEFLY, Patience, Polling
from tests.support.counts import count


class MemoryQueue:
    """An eviction queue in memory: ticks in a sorted list, marks in a set."""

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
    """A cache of `capacity` bytes in memory that follows the policy: what a simulation is made of."""

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
@given(
    requests=REQUESTS, sizes_of=st.lists(st.integers(1, 9), min_size=16, max_size=16), room=st.integers(9, 60)
)
@example(requests=[0, 0, 3, 3, 1, 2, 1, 0], sizes_of=[3] * 16, room=9)  # the newest goes: the hand wraps
@settings(max_examples=count(200, 5000), deadline=None)
def test_the_orders_are_those_of_the_plain_policies(
    order: Callable[[MemoryQueue], Iterator[Queued]],
    plain: Callable[[int], Policy],
    requests: list[int],
    sizes_of: list[int],
    room: int,
) -> None:
    """The plain ones evict one value at a time; ours chooses all that a value needs at once."""
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


# -- the bound ---------------------------------------------------------------------------------------------


@dataclass
class Account:
    """Charges of a cache; only `values` may be evicted."""

    limit: int
    entries: int = 0
    values: int = 0
    pinned: int = 0
    reserved: int = 0
    directories: int = 0
    pin_sets: int = 0

    @property
    def charged(self) -> int:
        return self.values + self.pinned + self.reserved + self.directories + self.pin_sets


@dataclass
class Disk:
    """Measurements that a simulation would make up."""

    fixed_bytes: int = 0
    index: int = 0
    room: int = 1 << 40
    space: FreeSpace = field(default=FreeSpace(1 << 50, 0, 0))

    def fixed(self) -> int:
        return self.fixed_bytes

    def index_file(self) -> int:
        return self.index

    def index_entries(self) -> int:
        return self.room

    def free(self) -> FreeSpace:
        return self.space


LIMITS = st.integers(sizes.MIN_LIMIT, 1 << 40)
PARTS = st.integers(0, 32 << 20)
ACCOUNTS = st.builds(
    Account,
    limit=st.integers(64 << 20, 192 << 20),
    entries=st.integers(0, 1000),
    values=st.integers(0, 192 << 20),
    pinned=PARTS,
    reserved=PARTS,
    directories=PARTS,
    pin_sets=PARTS,
)
DISKS = st.builds(Disk, fixed_bytes=st.integers(0, 1 << 20), index=st.integers(0, 1 << 22))


@given(ACCOUNTS, DISKS, PARTS)
def test_after_the_shortfall_has_gone_the_bound_holds_with_the_slack(
    account: Account, disk: Disk, charge: int
) -> None:
    limits = Limits(disk, keep_free=0, arriving=32)
    shortfall = limits.shortfall(account, charge)
    possible = limits.possible(account, charge)
    account.values -= max(min(shortfall.bytes, account.values), 0)
    assert possible == limits.shortfall(account, charge).met
    if possible:
        assert limits.charged(account) + charge <= account.limit - sizes.slack(account.limit)


@given(ACCOUNTS, DISKS)
def test_the_low_watermark_is_below_the_high_one(account: Account, disk: Disk) -> None:
    limits = Limits(disk, keep_free=0, arriving=32)
    if limits.above_high(account):
        shortfall = limits.above_low(account)
        assert shortfall.bytes > account.limit // 64
        account.values -= min(shortfall.bytes, account.values)
        assert not limits.above_high(account) or account.values == 0
    else:
        assert limits.over_capacity(account).met


@given(ACCOUNTS, DISKS, PARTS, st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_so_much_of_the_filesystem_stays_free(
    account: Account, disk: Disk, charge: int, free: int, keep_free: int
) -> None:
    """What is reserved will be taken from what is free now."""
    disk.space = FreeSpace(free, 0, 0)
    shortfall = Limits(disk, keep_free=keep_free, arriving=32).shortfall(account, charge)
    left = free + max(shortfall.bytes, 0) - account.reserved - charge
    assert left >= keep_free


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, 2000), st.integers(0, 2000))
def test_entries_go_where_the_index_or_the_inodes_run_out(
    inodes: int, inodes_free: int, entries: int, room: int
) -> None:
    disk = Disk(room=room, space=FreeSpace(1 << 50, inodes, min(inodes, inodes_free)))
    account = Account(64 << 20, entries=entries)
    gone = max(Limits(disk, keep_free=0, arriving=32).shortfall(account, 0).entries, 0)
    assert entries - gone + 32 <= room or gone >= entries
    if inodes:
        assert disk.space.inodes_free + gone >= inodes // 100 + 32


@given(ACCOUNTS, DISKS)
def test_what_may_come_and_be_pinned_to_the_last_byte(account: Account, disk: Disk) -> None:
    """All may come but for what cannot be evicted; pins leave an eighth of the limit, but not for space that
    is reserved, which becomes values that may be evicted."""
    limits = Limits(disk, keep_free=0, arriving=32)
    evictable = account.values
    account.values = 0
    left = limits.capacity(account) - account.charged
    for charge in (left, left + 1):
        account.values = 0
        assert limits.shortfall(account, charge).met == (charge == left)
        account.values = evictable
        assert limits.possible(account, charge) == (charge == left)
    pins = left + account.reserved - account.limit // 8
    assert limits.pins_fit(account, pins)
    assert not limits.pins_fit(account, pins + 1)


@given(LIMITS, LIMITS)
def test_sizes_grow_with_the_limit_and_are_a_small_part_of_it(one: int, other: int) -> None:
    low, high = sorted((one, other))
    for size in (sizes.slack, sizes.allowance, sizes.uses_per_transaction, sizes.largest_index):
        assert size(low) <= size(high)
    assert sizes.slack(low) <= (64 << 10) + low // 16
    assert sizes.allowance(low) <= max(low // 256, 64 << 10)
    assert 16 <= sizes.uses_per_transaction(low) <= 1024
    assert 0 < sizes.passes_per_transaction(low) <= sizes.PASSES
    assert sizes.map_size(low, None) % 4096 == 0
    assert sizes.map_size(high, low) <= max(low // 4, 4 << 20)


# -- waiting -----------------------------------------------------------------------------------------------


@given(st.floats(0, 100), st.floats(0, 5))
def test_a_wait_ends_at_its_deadline_in_pauses_that_grow(now: float, timeout: float) -> None:
    polling = Polling(now + timeout)
    pauses = []
    while polling.left(now) > 0:
        pauses.append(polling.pause(now))
        now += pauses[-1]
    assert sum(pauses) == pytest.approx(timeout, abs=1e-9)
    assert all(pause <= 0.02 for pause in pauses)
    assert pauses[:-1] == sorted(pauses[:-1])


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=40))
def test_a_stopped_holder_delays_two_in_a_row_and_no_more(waits: list[tuple[float, bool]]) -> None:
    patience = Patience()
    in_full = 0
    for timeout, got in waits:
        allowed = patience.allowed(timeout)
        assert allowed == (timeout if in_full < 2 else min(timeout, BRIEFLY))
        if got:
            patience.got()
            in_full = 0
        else:
            patience.missed(allowed)
            in_full += allowed > BRIEFLY
