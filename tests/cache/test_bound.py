"""The limit holds under the hardest conditions: many small values, so that the index and the directories take
a large part."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from lazyfs_cache import CacheError, open_cache
from lazyfs_cache.index import database
from tests.support.cachefill import key_of
from tests.support.counts import count
from tests.support.usage import disk_usage


@pytest.mark.timeout(900)
@pytest.mark.parametrize("limit", [2 << 20, 5 << 20, 12 << 20, 40 << 20])
def test_the_index_and_the_directories_are_within_the_limit(tmp_path: Path, limit: int) -> None:
    """Fills the cache, then keeps replacing its values: after each put, three of the last 2000 values are
    used."""
    source = random.Random(limit)
    root = tmp_path / "cache"
    number = 0
    most = 0
    with open_cache(str(root), limit, upkeep=False) as cache:
        for round_ in range(count(12, 300)):
            for _ in range(limit // 4096 // 10):
                number += 1
                assert cache.put(key_of(number), b"small")
                for _ in range(3):
                    cache.get(key_of(source.randrange(max(number - 2000, 0), number + 1)))
            if round_ % 5 == 2:
                cache.upkeep()
            charged = cache.stats().charged
            occupied = disk_usage(root)
            assert occupied <= charged <= limit
            most = max(most, occupied)
        assert cache.stats().evictions > 0
    assert most > limit * 0.8, "the limit is made use of"


def test_a_map_that_is_full_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins need more index space than the memory map of the index was made for. The cache still works, also
    after it is opened again."""
    root = str(tmp_path / "cache")
    monkeypatch.setattr(database, "map_size", lambda _: 1 << 20)
    keys = {key_of(number): 100 for number in range(2000)}
    with open_cache(root, 64 << 20, upkeep=False) as cache:
        for key in keys:
            cache.put(key, bytes(100))
        for label in range(8):
            with suppress(CacheError):
                cache.keep(b"label %d" % label, keys)
        assert cache.stats().state == "on"
        assert all(cache.put(key_of(number), bytes(100)) for number in range(10_000, 12_000))
        cache.drop(b"label 0")
        assert disk_usage(tmp_path / "cache") <= cache.stats().charged
    with open_cache(root, 64 << 20, upkeep=False) as cache:
        assert all(cache.put(key_of(number), bytes(100)) for number in range(20_000, 20_100))


def test_more_damaged_values_than_the_journal_names_hold_up_no_eviction(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), 16 << 20, upkeep=False) as cache:
        for number in range(700):
            assert cache.put(key_of(number), bytes(20_000))
        for number in range(600):
            cache._suspects.add(key_of(number))
        cache.resize(4 << 20)
        stats = cache.stats()
        assert disk_usage(tmp_path / "cache") <= stats.charged <= 4 << 20
        cache.upkeep()
        assert not cache._suspects
        assert not cache._uses.many
        assert cache.get(key_of(5)) is None
