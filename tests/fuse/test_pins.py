"""Pins of the catalogs in use: they are updated as the use changes, and never delay the mount."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lazyfs.core.digest import ref_of
from lazyfs.daemon import catalog_pins
from lazyfs.daemon.catalog_pins import LABEL, CatalogPins
from lazyfs.vfs.held_objects import HeldKey
from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files import layout
from lazyfs_cache.process import upkeep
from tests.support.cachefill import Child, lose_index

LIMIT = 32 << 20


def catalogs(cache: Cache, count: int, repository: str = "one", length: int = 0) -> list[tuple[str, HeldKey]]:
    """Puts `count` values into the cache, which stand for catalogs of a repository. Returns a (repository,
    key) pair for each."""
    found = []
    for number in range(count):
        value = b"catalog %d of %s" % (number, repository.encode()) + bytes(length)
        ref = ref_of(value)
        assert cache.put(ref.digest, value)
        found.append((repository, HeldKey(b"", ref)))
    cache.upkeep()
    return found


def test_a_lock_that_is_not_had_is_tried_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the lock, because it was stopped inside a change of the index. The update of the
    pins gives up soon, so that it does not delay an unmount, and a later update makes up for it."""
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
            followed.follow(in_use[1:])
        assert cache.stats().pinned == pinned
        followed.follow(in_use[1:])
        assert cache.stats().pinned == pinned * 29 // 30, "what could not be let go is let go now"
        followed.follow([])
        assert cache.stats().pinned == 0
        assert cache.unpin(in_use[0][1].ref.digest, LABEL), "there is none, and nothing failed"


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


def test_one_repository_pins_no_more_than_its_share(tmp_path: Path) -> None:
    """The greedy repository has 20 catalogs of 1 MiB in use. Its pins leave room for those of a repository
    with two."""
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
        modest = catalogs(cache, 2, "modest", 1 << 20)
        greedy = catalogs(cache, 20, "greedy", 1 << 20)
        CatalogPins(cache).follow([*modest, *greedy])
        pinned = {key for key, entry in cache.entries() if entry.pins}
        assert pinned > {held.ref.digest for _, held in modest}
        of_greedy = [held for _, held in greedy if held.ref.digest in pinned]
        assert of_greedy == [held for _, held in greedy[-len(of_greedy) :]], "the latest used"
        assert 0 < sum(held.ref.size for held in of_greedy) <= LIMIT // 4 // 2


def test_all_mounts_together_pin_a_quarter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: four mounts used to pin 53 of 64 MiB together."""
    monkeypatch.setattr(upkeep, "LOOK_FOR_DEAD", 0)
    root = str(tmp_path / "cache")

    def other(ready: Callable[[], None]) -> None:
        with open_cache(root, LIMIT):
            ready()
            time.sleep(600)

    children = [Child(other) for _ in range(3)]
    try:
        for child in children:
            child.wait_until_ready()
        with open_cache(root, LIMIT, upkeep=False) as cache:
            in_use = catalogs(cache, 20, length=1 << 20)
            followed = CatalogPins(cache)
            assert cache.processes() == 4
            followed.follow(in_use)
            assert 0 < cache.stats().pinned <= LIMIT // 4 // 4 + (1 << 16)
            while children:
                children.pop().kill()
            cache.upkeep()
            assert cache.processes() == 1
            followed.follow(in_use)
            assert LIMIT // 8 < cache.stats().pinned <= LIMIT // 4
    finally:
        for child in children:
            child.kill()
