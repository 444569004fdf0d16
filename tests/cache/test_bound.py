"""The bound where it is tightest: many small values, the index and the directories a large part."""

import random
from pathlib import Path

import pytest

from lazyfs_cache import open_cache
from tests.support.cachefill import key_of
from tests.support.counts import count
from tests.support.usage import disk_usage


@pytest.mark.timeout(900)
@pytest.mark.parametrize("limit", [2 << 20, 5 << 20, 12 << 20, 40 << 20])
def test_the_index_and_the_directories_are_within_the_limit(tmp_path: Path, limit: int) -> None:
    """Filled, then changed all over: every value in reach is used between admissions."""
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
