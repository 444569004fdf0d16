"""Pins: what they hold, what they cost, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest

from lazyfs_cache import CacheError, PinSetTooLarge, open_cache

LIMIT = 8 << 20
SIZE = 100_000


def test_a_set_that_is_too_large_is_refused_before_anything_of_it_is_here(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        sizes = {b"%d" % number: SIZE for number in range(80)}
        with pytest.raises(
            PinSetTooLarge, match=f"would take .* of a limit of {LIMIT}; unpin something or raise"
        ):
            cache.keep(b"large", sizes)
        assert cache.kept() == {}
        assert cache.keep(b"small", dict(list(sizes.items())[:60])) == 0
        for key in sizes:
            cache.put(key, key * (SIZE // len(key)))
        assert all(cache.size(key) is not None for key in list(sizes)[:60]), "kept when they came"
        assert cache.stats().charged <= LIMIT


def test_pins_of_single_values_are_bounded_too(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        for number in range(60):
            assert cache.put(b"%d" % number, bytes(SIZE))
            assert cache.pin(b"%d" % number, b"test")
        assert cache.put(b"large", bytes(1 << 20))
        with pytest.raises(PinSetTooLarge, match="unpin something or raise the limit"):
            cache.pin(b"large", b"test")
        assert cache.put(b"one more", bytes(SIZE)), "there is room for others"


def test_several_owners_of_one_pin(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        cache.put(b"key", b"value")
        assert cache.pin(b"key", b"a")
        assert cache.pin(b"key", b"a")
        assert cache.pin(b"key", b"b")
        assert not cache.pin(b"missing", b"a")
        cache.unpin(b"key", b"a")
        cache.evict(LIMIT)
        assert cache.get(b"key") == b"value"
        cache.unpin(b"key", b"b")
        cache.unpin(b"key", b"b")
        cache.evict(LIMIT)
        assert cache.get(b"key") is None


@pytest.mark.parametrize("label", [b"", b"x" * 121])
def test_labels_fit_a_file_name(tmp_path: Path, label: bytes) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        with pytest.raises(CacheError, match="must have 1 to 120 bytes"):
            cache.keep(label, {b"key": 1})
        with pytest.raises(CacheError, match="must have 1 to 120 bytes"):
            cache.pin(b"key", label)


def test_a_limit_below_the_pins_is_refused(tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as cache:
        for number in range(50):
            cache.put(b"%d" % number, bytes(SIZE))
        cache.keep(b"set", {b"%d" % number: SIZE for number in range(50)})
        with pytest.raises(PinSetTooLarge, match="bytes are pinned, too many for a limit of 4194304"):
            cache.resize(4 << 20)
        assert cache.stats().limit == LIMIT
        assert cache.stats().entries == 50


def test_values_last_used_at_one_time_all_go_when_they_are_let_go(tmp_path: Path) -> None:
    """Filesystems tell times 4 ms apart, so what a rebuild adopts often has equal ones."""
    root = tmp_path / "cache"
    keys = [b"%d" % number for number in range(10)]
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        for key in keys:
            assert cache.put(key, b"value")
        cache.keep(b"label", dict.fromkeys(keys[:5], 5))
    for path in root.glob("data/*/*"):
        os.utime(path, (10**9, 10**9))
    for index in root.glob("index-*"):
        shutil.rmtree(index)
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        cache.upkeep()
        assert cache.stats().entries == 10
        cache.drop(b"label")
        cache.evict(LIMIT)
        assert cache.stats().entries == 0
