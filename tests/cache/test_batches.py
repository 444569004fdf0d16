"""Values are put, and their downloads claimed, in batches. Each value succeeds or fails alone, and the
accounted sizes (charges) are right at any time."""

import errno
import os
from pathlib import Path

import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.process.arrivals import Arrived
from tests.support.cachefill import key_of
from tests.support.usage import disk_usage

LIMIT = 8 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entry_of(cache: Cache, key: bytes) -> int:
    return dict(cache.entries())[key].charge


def stored(cache: Cache) -> int:
    """Returns the total charge of all values, including those that are not yet in the index."""
    return cache._shared.account().sums.stored


def test_one_that_has_no_room_is_left_out_alone(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        batch = [(key_of(number), bytes([number]) * 50_000) for number in range(12)]
        batch.insert(5, (key_of(99), bytes(LIMIT)))
        assert cache.put_many(batch) == [key != key_of(99) for key, _ in batch]
        assert [cache.get(key) for key, _ in batch] == [
            None if key == key_of(99) else value for key, value in batch
        ]
        assert disk_usage(root) <= cache.stats().charged <= LIMIT
        assert (cache.stats().admitted, cache.stats().refused) == (12, 1)


def test_one_whose_file_cannot_be_written_fails_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ValueFiles.write

    def full(files: ValueFiles, name: str, key: bytes, value: bytes | memoryview) -> int:
        if key == key_of(3):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return write(files, name, key, value)

    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        monkeypatch.setattr(ValueFiles, "write", full)
        batch = [(key_of(number), bytes([number]) * 5000) for number in range(8)]
        assert cache.put_many(batch) == [number != 3 for number in range(8)]
        assert cache.stats().entries == 7
        assert disk_usage(root) <= cache.stats().charged
        assert len(list((root / "tmp").iterdir())) == 1, "only the journal"


def test_a_value_twice_and_one_that_is_here_are_here(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert cache.put(b"old", b"old")
        assert cache.put_many([(b"a", b"a"), (b"old", b"old"), (b"a", b"a"), (b"", b"no key")]) == [
            True,
            True,
            True,
            False,
        ]
        assert cache.stats().entries == 2
        assert cache.put_many([]) == []


def test_a_batch_is_one_transaction(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        batch = [(key_of(number), bytes([number]) * 40_000) for number in range(24)]
        before = transactions(cache)
        assert all(cache.put_many(batch))
        # one to reserve the space of the batch, one to enter values in the index
        assert transactions(cache) - before <= 2


def transactions(cache: Cache) -> int:
    number: int = cache._shared.generation.index._env.info()["last_txnid"]
    return number


def test_more_values_than_the_journal_has_slots(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        batch = [(key_of(number), b"%d" % number) for number in range(100)]
        assert all(cache.put_many(batch))
        assert all(cache.get(key) == value for key, value in batch)
        assert cache.stats().entries == 100


def test_a_batch_that_is_too_large_together_evicts_what_it_must(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        for number in range(100, 130):
            assert cache.put(key_of(number), bytes(200_000))
        batch = [(key_of(number), bytes([number]) * 900_000) for number in range(12)]
        answers = cache.put_many(batch)
        assert answers.count(True) >= 7
        assert [cache.size(key) is not None for key, _ in batch] == answers
        assert disk_usage(root) <= cache.stats().charged <= LIMIT


def test_one_that_is_here_is_not_evicted_for_the_others(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        for number in range(100):
            assert cache.put(key_of(number), bytes(200_000))
        oldest = min(number for number in range(100) if cache.size(key_of(number)) is not None)
        batch = [(key_of(number), bytes(200_000)) for number in (oldest, 100, 101)]
        assert cache.put_many(batch) == [True, True, True]
        assert cache.size(key_of(oldest + 1)) is None, "the next oldest was evicted"


def test_claims_come_together_and_go_one_by_one(root: Path) -> None:
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        theirs = cache.claim(b"b")
        assert theirs is not None
        first, second, third, again = cache.claim_many([b"a", b"b", b"c", b"a"])
        assert second is None
        assert again is None
        assert first is not None
        assert third is not None
        first.release()
        assert cache.wait(b"a", 0)
        assert not cache.wait(b"c", 0)
        third.release()
        theirs.release()
        assert all(lock is not None for lock in cache.claim_many([b"a", b"b", b"c"]))


@pytest.mark.parametrize("pinned", [False, True])
def test_of_two_processes_that_put_one_value_the_larger_file_is_charged(
    root: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    """This process has entered a value in the index. Then another process replaces the value's file by one
    that is larger by an extent."""
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        value, status = bytes(100_000), ValueFiles.status
        cache.put_many([(b"key", value), (b"other", value)])
        before, entry = stored(cache), entry_of(cache, b"key")
        if pinned:
            cache.pin(b"key", b"test")

        def larger(files: ValueFiles, key: bytes) -> os.stat_result | None:
            found = status(files, key)
            if found is None or key != b"key":
                return found
            more = {"st_blocks": found.st_blocks + 8}
            return os.stat_result(
                tuple(found), {name: more.get(name, getattr(found, name)) for name in FIELDS}
            )

        monkeypatch.setattr(ValueFiles, "status", larger)
        held = cache.reserve(b"key", len(value))
        assert held is not None
        held.used()
        (slot,) = held.generation.arrivals.slots.take_many(1)
        held.generation.arrivals.add(Arrived(slot, b"key", len(value), held.charge, entry + 4096))
        assert stored(cache) == before + 4096
        assert entry_of(cache, b"key") == entry + 4096
        assert cache.stats().pinned == (entry + 4096 if pinned else 0)
        cache.unpin(b"key", b"test")
        cache.evict(LIMIT)
        assert cache.stats().entries == 0


FIELDS = [name for name in dir(os.stat_result) if name.startswith("st_")]
