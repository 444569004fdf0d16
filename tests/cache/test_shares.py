"""Several tenants of one cache: which tenant must give up values when room is needed, and which values the
others keep."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import KEPT, Entry
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.eviction import Queued
from lazyfs_cache.policy.shares import IDLE, MOST, Stake, by_share
from tests.support.cache_index import new_index
from tests.support.cachefill import key_of
from tests.support.counts import count

LIMIT = 8 << 20
VALUE = bytes(60_000)
NOW = 10 * IDLE
_QUEUES = st.lists(
    st.lists(st.tuples(st.integers(0, 2 * IDLE), st.integers(1, 9)), max_size=12), min_size=1, max_size=5
)
"""A list for each tenant, with (age in ticks, charge) of each of its values."""


def _stakes(queues: list[list[tuple[int, int]]]) -> list[tuple[int, list[Queued]]]:
    """Returns for each tenant (total charge, its values in their eviction order)."""
    found = []
    for tenant, queue in enumerate(queues):
        values = [
            Queued(NOW - age, charge, b"%d.%d" % (tenant, n), tenant) for n, (age, charge) in enumerate(queue)
        ]
        found.append((sum(value.charge for value in values), sorted(values)))
    return found


@given(_QUEUES)
@settings(max_examples=count(300, 5000))
def test_what_nobody_used_goes_first_and_then_whoever_holds_most_gives(
    queues: list[list[tuple[int, int]]],
) -> None:
    stakes = _stakes(queues)
    order = list(by_share([Stake(held, iter(values)) for held, values in stakes], NOW))
    left = [list(values) for _, values in stakes]
    assert sorted(order) == sorted(value for values in left for value in values)
    for value in order:
        held = [sum(one.charge for one in values) for values in left]
        assert value == left[value.tenant].pop(0), "each tenant's go in their order"
        idle = [one.tick for values in left for one in values if one.tick < NOW - IDLE]
        if value.tick < NOW - IDLE:
            assert value.tick <= min(idle, default=NOW)
        else:
            assert not idle
            assert held[value.tenant] == max(h for h, values in zip(held, left, strict=True) if h)


@given(_QUEUES, st.integers(1, 300))
@settings(max_examples=count(300, 5000))
def test_no_tenant_loses_what_it_uses_below_an_equal_part(
    queues: list[list[tuple[int, int]]], wanted: int
) -> None:
    stakes = _stakes([[(age // 4, charge) for age, charge in queue] for queue in queues])  # all are in use
    before = [held for held, _ in stakes]
    after = before[:]
    for value in by_share([Stake(held, iter(values)) for held, values in stakes], NOW):
        if sum(before) - sum(after) >= wanted:
            break
        after[value.tenant] -= value.charge
    part = sum(after) // len(after)
    assert all(here >= min(held, part - 9) for here, held in zip(after, before, strict=True))


@given(_QUEUES, st.integers(1, 4))
def test_nobody_gives_in_the_place_of_one_whose_order_pauses(
    queues: list[list[tuple[int, int]]], pause: int
) -> None:
    """A SIEVE order pauses when its hand has passed over enough values. While a tenant's order pauses, no
    other tenant must give up values in its place."""
    stakes = [(held, values) for held, values in _stakes(queues) if values]
    order = [Stake(held, islice(values, pause), NOW) for held, values in stakes]
    whole = [Stake(held, iter(values), NOW) for held, values in stakes]
    given = list(by_share(order, NOW))
    assert given == list(islice(by_share(whole, NOW), len(given)))
    assert bool(given) == bool(stakes)


_STEP = st.tuples(
    st.sampled_from(["insert", "insert", "touch", "touch", "pin", "unpin", "forget", "evict", "old"]),
    st.integers(0, 15),
    st.sampled_from([b"", b"a", b"b", b"c"]),
)
_TRANSACTIONS = st.lists(st.lists(_STEP, max_size=5), max_size=20)
"""A list of steps for each transaction. Several steps share one transaction, because a transaction remembers
the end of the queue between them."""


@pytest.mark.parametrize("sieve", [False, True])
@given(transactions=_TRANSACTIONS)
@settings(max_examples=count(100, 2000))
def test_each_tenants_count_is_that_of_its_values(
    sieve: bool, transactions: list[list[tuple[str, int, bytes]]]
) -> None:
    """The model identifies the tenant of each value by name, the tables by number."""
    with new_index(sieve=sieve) as index:
        owners: dict[bytes, bytes] = {}
        for steps in transactions:
            with index.transaction() as transaction:
                for what, number, tenant in steps:
                    _step(transaction, owners, what, b"%02d" % number, tenant)
            _agree(index, owners)


def _step(transaction: Transaction, owners: dict[bytes, bytes], what: str, key: bytes, tenant: bytes) -> None:
    entry = transaction.entry(key)
    assert (entry is not None) == (key in owners)
    match what:
        case "insert" | "old" if entry is None:
            used = max(transaction.sums.tick - 2 * IDLE, 0) if what == "old" else None
            transaction.insert(key, 1, len(key) + len(tenant), used, tenant)
            owners[key] = tenant
        case "touch":
            transaction.touch(key)
        case "pin":
            transaction.pin(key, KEPT, b"label")
        case "unpin":
            transaction.unpin(key, KEPT, b"label")
        case "forget" if entry is not None:
            transaction.forget(key, entry)
            del owners[key]
        case "evict":
            values = list(islice(transaction.next_out(), 2))
            transaction.evict(values)
            for value in values:
                del owners[value.key]


def _agree(index: Index, owners: dict[bytes, bytes]) -> None:
    sums = index.sums()
    listed = dict(index.page(b"", 100))
    assert {key: sums.tenants[entry.tenant].name for key, entry in listed.items()} == owners
    for number, tenant in enumerate(sums.tenants):
        own = [entry for entry in listed.values() if entry.tenant == number]
        assert (tenant.entries, tenant.stored) == (len(own), sum(entry.charge for entry in own))
        with index.transaction() as transaction:
            queued = list(transaction.queued(number))
        assert [value.tick for value in queued] == sorted(entry.tick for entry in own if not entry.pins)
    assert sum(tenant.stored for tenant in sums.tenants) == sums.stored


def test_a_number_without_values_goes_to_another_tenant_and_its_ghosts_stay_gone() -> None:
    with new_index() as index:
        with index.transaction() as transaction:
            for number in range(100):
                transaction.insert(b"%03d" % number, 1, 1, tenant=b"first" if number < 4 else b"other")
            transaction.sums.sweep = b"050"  # the sweep begins behind the ghosts
            transaction.evict(list(transaction.queued(1)))
        assert index.sums().ghosts == 4
        with index.transaction() as transaction:
            transaction.insert(b"new", 1, 1, tenant=b"second")
            assert [tenant.name for tenant in transaction.sums.tenants] == [b"", b"second", b"other"]
        assert [key for key, entry in index.page(b"", 200) if entry.tenant != 2] == [b"new"]


def test_a_use_of_the_last_tenants_only_value_is_followed_by_one_of_another_tenant() -> None:
    with new_index() as index:
        with index.transaction() as transaction:
            transaction.insert(b"first", 1, 1, tenant=b"a")
            transaction.insert(b"last", 1, 1, tenant=b"b")
        with index.transaction() as transaction:
            transaction.touch(b"last")  # for a moment the newest value of the queue is the other tenant's
            transaction.touch(b"first")
        _agree(index, {b"first": b"a", b"last": b"b"})


def test_tenants_beyond_the_most_share_one_part_with_everybody_without_a_name() -> None:
    with new_index() as index, index.transaction() as transaction:
        for number in range(MOST + 3):
            transaction.insert(b"%02d" % number, 1, 1, tenant=b"tenant %d" % number)
        transaction.insert(b"none", 1, 1)
        assert len(transaction.sums.tenants) == MOST
        assert [tenant.entries for tenant in transaction.sums.tenants] == [5] + [1] * (MOST - 1)
        assert [value.key for value in islice(transaction.next_out(), 4)] == [b"31", b"32", b"33", b"34"]


@pytest.fixture(params=["lru", "sieve"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    with open_cache(str(tmp_path / "cache"), LIMIT, policy=request.param, upkeep=False) as opened:
        yield opened


def _here(cache: Cache, numbers: range) -> int:
    return sum(cache.size(key_of(number)) is not None for number in numbers)


def test_a_tenant_that_streams_pushes_out_its_own(cache: Cache) -> None:
    """The honest tenant's 40 values of 60 kB are well below its half of the 8 MiB. The hostile tenant reads
    600 values, four times the whole cache."""
    for number in range(40):
        assert cache.put(key_of(number), VALUE, tenant=b"honest")
    for number in range(1000, 1600):
        assert cache.put(key_of(number), VALUE, tenant=b"hostile")
    assert _here(cache, range(40)) == 40
    assert _here(cache, range(1000, 1600)) > 50, "the other one has all the rest"


def test_one_that_holds_more_than_its_share_is_cut_down_to_it_and_no_further(cache: Cache) -> None:
    for number in range(100):
        assert cache.put(key_of(number), VALUE, tenant=b"first")
    before = _here(cache, range(100))
    for number in range(1000, 1600):
        assert cache.put(key_of(number), VALUE, tenant=b"second")
    first, second = _here(cache, range(100)), _here(cache, range(1000, 1600))
    assert before > 80
    assert abs(first - second) <= 18, "the last 16 may not be entered yet"
    assert first + second >= before - 2


def test_without_tenants_the_last_one_takes_all(cache: Cache) -> None:
    for number in range(40):
        assert cache.put(key_of(number), VALUE)
    for number in range(1000, 1600):
        assert cache.put(key_of(number), VALUE)
    assert _here(cache, range(40)) == 0


def test_a_value_stays_with_the_tenant_that_brought_it_first(cache: Cache) -> None:
    assert cache.put(b"shared", VALUE, tenant=b"first")
    assert cache.put(b"shared", VALUE, tenant=b"second")
    cache.stats()
    ((_, entry),) = list(cache.entries())
    assert isinstance(entry, Entry)
    assert entry.tenant == 1
    with pytest.raises(ValueError, match="more than 32 bytes"):
        cache.put(b"other", VALUE, tenant=b"x" * 33)
