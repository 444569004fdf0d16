"""Ghosts: rows that LRU leaves in the table of entries for evicted values. They are never visible, and there
are few of them."""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import KEPT, Entry
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.eviction import Queued
from tests.support.cachefill import key_of
from tests.support.counts import count

CHARGE = 4096


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(str(tmp_path), 1 << 26)
    yield opened
    opened.close()


def fill(index: Index, keys: list[bytes]) -> None:
    with index.transaction() as transaction:
        for key in keys:
            transaction.insert(key, 1, CHARGE)


def evict(transaction: Transaction, number: int) -> list[bytes]:
    """Evicts the first values of the queue, at most `number` of them; returns their keys."""
    values = list(islice(transaction.next_out(), number))
    transaction.evict(values)
    return [value.key for value in values]


def listed(index: Index) -> list[bytes]:
    return [key for key, _ in index.page(b"", 1 << 20)]


def rows_of_entries(index: Index) -> int:
    with index._env.begin() as txn:
        found: int = txn.stat(index.tables.entries)["entries"]
        return found


def check_counts(index: Index) -> int:
    """Asserts that rows, entries and ghosts agree and that ghosts are few; returns the number of ghosts."""
    sums = index.sums()
    assert len(listed(index)) == sums.entries
    assert rows_of_entries(index) - sums.entries == sums.ghosts
    assert 0 <= sums.ghosts <= 0.18 * sums.entries
    return sums.ghosts


@pytest.fixture
def ghost(index: Index) -> bytes:
    """Makes one ghost beside 19 values; returns its key."""
    fill(index, [bytes((number,)) for number in range(20)])
    with index.transaction() as transaction:
        transaction.sums.sweep = b"\1"  # the sweep begins behind this ghost
        assert evict(transaction, 1) == [b"\0"]
    assert rows_of_entries(index) == 20
    return b"\0"


def test_a_ghost_is_not_here(index: Index, ghost: bytes) -> None:
    assert ghost not in listed(index)
    assert index.page(b"", 1)[0][0] == b"\1", "a page is not ended by one"
    with index.transaction() as transaction:
        assert transaction.entry(ghost) is None
        transaction.touch(ghost)
        assert transaction.entry(ghost) is None
        assert transaction.pin(ghost, KEPT, b"set")
        assert transaction.entry(ghost) is None
        assert transaction.unpin(ghost, KEPT, b"set")
        assert transaction.entry(ghost) is None
        assert (transaction.sums.entries, transaction.sums.stored, transaction.sums.pinned) == (
            19,
            19 * CHARGE,
            0,
        )
        assert [value.key for value in transaction.next_out()] == [
            bytes((number,)) for number in range(1, 20)
        ]
    assert check_counts(index) == 1


def test_a_value_comes_back_over_its_ghost(index: Index, ghost: bytes) -> None:
    with index.transaction() as transaction:
        assert transaction.pin(ghost, KEPT, b"set")
        transaction.insert(ghost, 2, 2 * CHARGE)
        assert transaction.entry(ghost) == Entry(transaction.sums.tick, 2, 2 * CHARGE, 1, False)
        transaction.unpin(ghost, KEPT, b"set")
        assert [value.key for value in transaction.next_out()][-1] == ghost
    assert check_counts(index) == 0


def test_a_value_let_go_below_the_floor_is_here_and_goes_in_its_turn(index: Index) -> None:
    keys = [bytes((number,)) for number in range(40)]
    fill(index, keys)
    with index.transaction() as transaction:
        for key in keys[:3]:
            assert transaction.pin(key, KEPT, b"set")
        assert evict(transaction, 10) == keys[3:13]
        for key in (keys[1], keys[2], keys[0]):
            assert transaction.unpin(key, KEPT, b"set")
            assert transaction.entry(key) is not None
    assert listed(index) == keys[:3] + keys[13:]
    check_counts(index)
    with index.transaction() as transaction:
        assert evict(transaction, 1) == keys[:1]
        transaction.touch(keys[1])
        assert evict(transaction, 2) == [keys[2], keys[13]], "as they were last used"
        assert transaction.entry(keys[1]) is not None
    assert listed(index) == [keys[1], *keys[14:]]
    check_counts(index)


def test_a_file_adopted_below_the_floor_is_here_and_goes_in_its_turn(index: Index) -> None:
    """A rebuild may adopt files that are older than values evicted since the rebuild began."""
    keys = [bytes((number,)) for number in range(40)]
    fill(index, keys[:20])
    with index.transaction() as transaction:
        before = list(transaction.next_out())
        evict(transaction, 10)
        floor = before[9].tick
        for key, used in zip(keys[20:24], (before[2].tick, 0, floor, before[2].tick), strict=True):
            transaction.insert(key, 1, CHARGE, used=used)
            assert transaction.entry(key) is not None
    assert listed(index) == keys[10:24]
    check_counts(index)
    with index.transaction() as transaction:
        assert transaction.sums.tenants[0].floor == floor
        assert evict(transaction, 6) == [keys[21], keys[20], keys[23], keys[22], keys[10], keys[11]]
    assert listed(index) == keys[12:20]
    check_counts(index)


def test_ticks_taken_by_files_of_one_time_are_not_given_out_again(index: Index) -> None:
    with index.transaction() as transaction:
        latest = transaction.sums.tick = transaction.sums.tick + 10**12  # the clock has been set back since
        for number in range(5):
            transaction.insert(b"%d" % number, 1, CHARGE, used=latest)
        transaction.insert(b"new", 1, CHARGE)
        transaction.touch(b"0")
        assert evict(transaction, 4) == [b"1", b"2", b"3", b"4"]
        assert transaction.sums.tenants[0].floor == latest + 4 < transaction.sums.tick
        transaction.touch(b"new")
        transaction.insert(b"newer", 1, CHARGE)
        assert [value.key for value in transaction.next_out()] == [b"0", b"new", b"newer"]


def test_sieve_leaves_none_and_lru_goes_on_after_it(index: Index) -> None:
    keys = [bytes((number,)) for number in range(60)]
    fill(index, keys)
    with index.transaction() as transaction:
        transaction.pin(keys[0], KEPT, b"set")
        transaction.sums.sweep = keys[10]
        evict(transaction, 4)
        floor = transaction.sums.tenants[0].floor
    ghosts = check_counts(index)
    assert ghosts > 0
    with index.transaction() as transaction:
        transaction.sums.sieve = True
        transaction.unpin(keys[0], KEPT, b"set")
        transaction.touch(keys[5])
        assert evict(transaction, 3) == [keys[0], keys[6], keys[7]]
        assert transaction.sums.tenants[0].floor == floor
        assert transaction.sums.ghosts <= ghosts
    check_counts(index)
    with index.transaction() as transaction:
        transaction.sums.sieve = False
        assert evict(transaction, 2) == [keys[5], keys[8]]
    assert listed(index) == keys[9:]
    check_counts(index)


ORDERS: dict[str, Callable[[int], bytes]] = {
    "spread": key_of,
    "ascending": lambda number: number.to_bytes(8, "big"),
    "descending": lambda number: ((1 << 32) - number).to_bytes(8, "big"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("together", [1, 7, 64])
def test_ghosts_are_few_whatever_comes_and_goes(index: Index, order: str, together: int) -> None:
    """Values are replaced one by one and in bulk, and in the end all are evicted. There are never too many
    rows."""
    source = random.Random(together)
    made = 0
    most = 0

    def come(number: int) -> None:
        nonlocal made
        fill(index, [ORDERS[order](made + more) for more in range(number)])
        made += number

    def go(number: int) -> None:
        nonlocal most
        number = min(number, index.sums().entries)
        while number > 0:
            with index.transaction() as transaction:
                number -= len(evict(transaction, min(together, number)))
            most = max(most, check_counts(index))

    come(600)
    for _ in range(count(20, 200)):  # one for one
        come(together)
        go(together)
    for _ in range(count(2, 20)):  # waves
        go(source.randrange(200, 400))
        come(source.randrange(200, 400))
    assert most > 0, "LRU leaves them"
    go(index.sums().entries // 2)
    while keys := listed(index):  # the other values are found damaged, or discarded
        with index.transaction() as transaction:
            for key in source.sample(keys, min(together, len(keys))):
                entry = transaction.entry(key)
                assert entry is not None
                transaction.forget(key, entry)
        check_counts(index)
    assert rows_of_entries(index) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("insert", "adopt", "touch", "pin", "unpin", "keep", "drop", "forget", "evict", "policy")
        ),
        st.integers(0, 29),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=count(200, 5000))
def test_the_tables_say_what_a_model_says(steps: list[tuple[str, int]]) -> None:
    """Each step is a transaction. The model keeps the values and their order itself, without reading the
    tables."""
    with TemporaryDirectory() as directory:
        index = Index(directory, 1 << 24)
        try:
            fill(index, [bytes((number * 7 % 24,)) for number in range(24)])
            here = {key: entry.tick for key, entry in index.page(b"", 24)}
            pins: set[tuple[bytes, int]] = set()
            for what, number in steps:
                step(index, here, pins, what, number)
                agree(index, here, pins)
        finally:
            index.close()


def step(index: Index, here: dict[bytes, int], pins: set[tuple[bytes, int]], what: str, number: int) -> None:
    key = bytes((number,))
    holder = KEPT if what in ("keep", "drop") else 7
    with index.transaction() as transaction:
        entry = transaction.entry(key)
        assert (entry is not None) == (key in here)
        match what:
            case "insert" if entry is None:
                transaction.insert(key, 1, CHARGE)
            case "adopt" if entry is None:
                floor = transaction.sums.tenants[0].floor
                used = min((*here.values(), floor))  # the time of the oldest, or the floor
                transaction.insert(key, 1, CHARGE, used=used)
            case "touch":
                transaction.touch(key)
            case "pin" | "keep" if entry is not None or what == "keep":
                transaction.pin(key, holder, b"label")
                pins.add((key, holder))
            case "unpin" | "drop":
                transaction.unpin(key, holder, b"label")
                pins.discard((key, holder))
            case "forget" if entry is not None:
                transaction.forget(key, entry)
                pins.discard((key, 7))
                del here[key]
            case "evict":
                for gone in evict(transaction, number % 4 + 1):
                    del here[gone]
            case "policy":
                transaction.sums.sieve = not transaction.sums.sieve
        entry = transaction.entry(key)
        if entry is not None:
            here[key] = entry.tick


def agree(index: Index, here: dict[bytes, int], pins: set[tuple[bytes, int]]) -> None:
    pinned = {key for key, _ in pins} & here.keys()
    assert listed(index) == sorted(here)
    check_counts(index)
    with index.transaction() as transaction:
        sums = transaction.sums
        assert (sums.stored, sums.pinned) == (len(here) * CHARGE, len(pinned) * CHARGE)
        assert sums.tenants[0].floor <= sums.tick
        queue = sorted((here[key], key) for key in here.keys() - pinned)
        assert list(transaction.queued()) == [Queued(tick, CHARGE, key) for tick, key in queue]
