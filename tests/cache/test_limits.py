"""The limits of a cache, and the decision whether a new value must wait for room. No disk, database or clock
is needed, as in a simulation."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs_cache.policy import sizes
from lazyfs_cache.policy.limits import FreeSpace, Limits
from lazyfs_cache.policy.waiting import BRIEFLY, Patience, Polling


@dataclass
class Account:
    """The charged bytes of a cache by kind. Eviction can free only those in `values`."""

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
    """A filesystem whose measurements the test chooses."""

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
    """The space that is reserved for values which are being written counts as used, since they will take it
    from the free space."""
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
    """A new value is possible if its charge fits, to the last byte, into what eviction can free. Pins may
    take all of this and the reserved space, except an eighth of the limit. Reserved space counts because it
    becomes values, which can be evicted."""
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
