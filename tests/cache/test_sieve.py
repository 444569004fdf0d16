"""The index's SIEVE, compared with the benchmark's simple SIEVE, and the bound on the work of a single change
of the index."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.cache.policies import Sieve
from lazyfs_cache import open_cache
from lazyfs_cache.index import database
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy import sizes
from tests.support.cache_index import new_index
from tests.support.counts import count


@contextmanager
def sieving() -> Iterator[Transaction]:
    with new_index(sieve=True) as index, index.transaction() as transaction:
        yield transaction


@given(st.lists(st.integers(0, 20), max_size=200), st.integers(1, 12))
@example([0, 0, 3, 3, 1, 2, 1, 0], 3)  # the newest goes: the hand begins again with the oldest
@settings(max_examples=count(100, 2000))
def test_it_keeps_what_the_plain_one_keeps(requests: list[int], capacity: int) -> None:
    plain = Sieve(capacity)
    with sieving() as tested:
        for request in requests:
            key = bytes((request,))
            hit = tested.entry(key) is not None
            assert plain.request(request, 1) == hit
            if hit:
                tested.touch(key)
            else:
                if tested.sums.entries == capacity:
                    tested.evict([next(tested.next_out())])
                tested.insert(key, 1, 1)


def test_one_eviction_passes_over_so_many_and_no_more() -> None:
    with sieving() as tested:
        for number in range(3 * sizes.PASSES):
            tested.insert(number.to_bytes(4, "big"), 1, 1)
            tested.touch(number.to_bytes(4, "big"))
        assert int.from_bytes(next(tested.next_out()).key, "big") == sizes.PASSES


def test_a_change_ends_where_it_has_passed_over_enough() -> None:
    """SIEVE's hand stops after it has passed over enough values. The next change of the index continues from
    there."""
    with sieving() as tested:
        for number in range(20):
            tested.insert(bytes((number,)), 1, 1)
            if number % 5:
                tested.touch(bytes((number,)))
        assert [value.key[0] for value in tested.next_out(6)] == [0, 5]
        assert tested.entry(b"\x06").visited is False  # type: ignore[union-attr]
        assert [value.key[0] for value in tested.next_out(6)][:2] == [10, 15]


def test_the_slack_covers_the_index_where_everything_was_used(tmp_path: Path) -> None:
    limit = 256 << 20
    keys = [random.Random(number).randbytes(32) for number in range(limit // 4096 // 2)]
    index = Index(str(tmp_path), database.map_size(limit))
    with (
        index.transaction() as filling
    ):  # one transaction leaves no free pages, so the file grows by all that is written
        filling.sums.sieve = True
        for key in keys:
            filling.insert(key, 1, 4096)
            filling.touch(key)
    before = index.used()
    with index.transaction() as evicting:
        victims = list(
            islice(evicting.next_out(sizes.passes_per_transaction(limit)), sizes.EVICTED_PER_TRANSACTION)
        )
        evicting.evict(victims)
    assert 0 < index.used() - before <= sizes.slack(limit)
    index.close()


def test_where_all_were_used_and_the_hand_is_at_the_end_one_goes() -> None:
    with sieving() as tested:
        for number in range(8):
            tested.insert(bytes((number,)), 1, 1)
            tested.touch(bytes((number,)))
        tested.sums.tenants[0].hand = tested.sums.tick + 1
        assert [value.key for value in tested.next_out()] == [bytes((number,)) for number in range(8)]


def test_each_value_goes_once() -> None:
    with sieving() as tested:
        for number in range(10):
            tested.insert(bytes((number,)), 1, 1)
            if number % 3:
                tested.touch(bytes((number,)))
        next(tested.next_out())  # leaves the hand in the middle of the queue
        assert sorted(value.key for value in tested.next_out()) == [bytes((number,)) for number in range(10)]


def test_a_scan_passes_through_a_sieve_and_not_through_lru(tmp_path: str) -> None:
    """40 values are in use, then 400 are read once: SIEVE keeps the 40, LRU keeps none of them."""
    kept = {}
    for policy in ("lru", "sieve"):
        with open_cache(f"{tmp_path}/{policy}", 8 << 20, policy=policy, upkeep=False) as cache:
            for _ in range(2):
                for number in range(40):
                    if cache.get(b"hot%d" % number) is None:
                        cache.put(b"hot%d" % number, bytes(50_000))
                cache.upkeep()
            for number in range(400):
                cache.put(b"scan%d" % number, bytes(50_000))
            kept[policy] = sum(cache.get(b"hot%d" % number) is not None for number in range(40))
    assert kept == {"lru": 0, "sieve": 40}
