"""Processes that use a cache are killed at random points. The files that they leave behind are right."""

import functools
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lazyfs_cache import open_cache
from lazyfs_cache.files import layout
from tests.support.cachefill import Child, key_of, value_of, wrong_values
from tests.support.counts import count
from tests.support.usage import disk_usage

LIMIT = 12 << 20


def fill(root: Path, seed: int, ready: Callable[[], None]) -> None:
    """Makes random changes of every kind to a cache, until it is killed."""
    source = random.Random(seed)
    cache = open_cache(str(root), LIMIT)
    ready()
    while True:
        key = key_of(source.randrange(200))
        what = source.random()
        if what < 0.2:
            several = [key_of(source.randrange(200)) for _ in range(source.randrange(1, 9))]
            cache.put_many([(one, value_of(one)) for one in several])
        elif what < 0.25:
            locks = cache.claim_many([key_of(source.randrange(200)) for _ in range(8)])
            assert any(lock is not None for lock in locks)
            for lock in locks:
                if lock is not None and source.random() < 0.9:
                    lock.release()
        elif what < 0.5:
            value = value_of(key)
            held = cache.reserve(key, len(value)) if source.random() < 0.5 else None
            cache.put(key, value, held)
        elif what < 0.85:
            found = cache.get(key)
            assert found is None or found == value_of(key)
        elif what < 0.9:
            cache.discard(key)
        elif what < 0.94:
            cache.pin(key, b"fill")
        elif what < 0.98:
            cache.unpin(key, b"fill")
        elif what < 0.99:
            cache.keep(b"set", {key_of(source.randrange(200)): 1 for _ in range(3)})
        else:
            cache.resize(source.choice((LIMIT, LIMIT * 3 // 4)))


def check(root: Path) -> None:
    """Opens the cache. Asserts that its index agrees with its files, and that it serves no wrong value."""
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        assert disk_usage(root) <= cache.stats().charged <= LIMIT
        cache.upkeep()
        stats = cache.stats()
        assert stats.state == "on"
        assert stats.charged * 0.98 <= disk_usage(root) <= stats.charged <= LIMIT
        assert wrong_values(cache) == []
        found = cache.verify()
        assert (found.damaged, found.orphans, found.missing) == (0, 0, 0)
        assert found.values == cache.stats().entries
        assert len(list((root / layout.TMP).iterdir())) == 1, "only this process's journal"


@pytest.mark.timeout(1200)
def test_killed_at_random_points(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    source = random.Random(4)
    served = 0
    for round_ in range(count(15, 500)):
        child = Child(functools.partial(fill, root, round_))
        child.wait_until_ready()
        child.kill(after=source.uniform(0, 0.1))
        if source.random() < 0.1:  # the index is lost as well, as after a power cut
            for index in root.glob("index-*"):
                shutil.rmtree(index)
        check(root)
        with open_cache(str(root), LIMIT) as cache:
            served += cache.stats().entries
    assert served > 0, "nothing was ever put"
