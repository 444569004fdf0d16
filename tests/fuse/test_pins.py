"""Pins of the catalogs in use: they follow what is in use, and never hold the mount up."""

import fcntl
import time
from pathlib import Path

import pytest

from lazyfs.core.digest import Digest, ref_of
from lazyfs.daemon import catalog_pins
from lazyfs.daemon.catalog_pins import LABEL, CatalogPins
from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files import layout
from tests.support.cachefill import lose_index

LIMIT = 32 << 20


def catalogs(cache: Cache, count: int) -> dict[Digest, int]:
    """So many values that are in the cache, with their sizes."""
    found = {}
    for number in range(count):
        value = b"catalog %d" % number
        ref = ref_of(value)
        assert cache.put(ref.digest, value)
        found[ref.digest] = ref.size
    cache.upkeep()
    return found


def test_a_lock_that_is_not_had_is_tried_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped inside a change: the mount's end waits for what is under way here."""
    monkeypatch.setattr(catalog_pins, "PATIENCE", 0.1)
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT, lock_timeout=0.2, upkeep=False) as cache:
        in_use = catalogs(cache, 30)
        followed = CatalogPins(cache)
        with (root / layout.LOCK).open() as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            started = time.monotonic()
            followed.follow(in_use)
            assert time.monotonic() - started < 2
        monkeypatch.setattr(catalog_pins, "PATIENCE", 60)
        followed.follow(in_use)
        pinned = cache.stats().pinned
        assert pinned > 0
        with (root / layout.LOCK).open() as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            followed.follow(dict.fromkeys(list(in_use)[1:], 10))
        assert cache.stats().pinned == pinned
        followed.follow(dict.fromkeys(list(in_use)[1:], 10))
        assert cache.stats().pinned == pinned * 29 // 30, "what could not be let go is let go now"
        followed.follow({})
        assert cache.stats().pinned == 0
        assert cache.unpin(next(iter(in_use)), LABEL), "there is none, and nothing failed"


def test_they_come_back_after_the_index_was_lost(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
        in_use = catalogs(cache, 5)
        followed = CatalogPins(cache)
        followed.follow(in_use)
        pinned = cache.stats().pinned
        lose_index(cache)
        cache.upkeep()
        assert cache.stats().pinned == 0
        followed.follow(in_use)
        assert cache.stats().pinned == pinned > 0
