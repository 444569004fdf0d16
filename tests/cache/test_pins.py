"""Pins, which protect values from eviction: their effect, their cost, and the pin sets that are refused."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs_cache import Cache, CacheError, PinSetTooLarge, open_cache
from lazyfs_cache.files import usage
from tests.support.cachefill import key_of
from tests.support.usage import disk_usage

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
    """Filesystems record times in steps of 4 ms, so values that a rebuild adopts often have equal times."""
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


def full(root: Path, limit: int) -> Cache:
    """Returns an open cache that is full: it has already evicted values."""
    cache = open_cache(str(root), limit, upkeep=False)
    number = 0
    while not cache.stats().evictions:
        for _ in range(100):
            cache.put(key_of(number), bytes(1000))
            number += 1
    cache.upkeep()
    return cache


def test_many_pins_at_once_keep_to_the_limit(tmp_path: Path) -> None:
    limit = 32 << 20
    root = tmp_path / "cache"
    with full(root, limit) as cache:
        keys = [key for key, _ in cache.entries()][:4000]
        for label in (b"first", b"second", b"third"):
            cache.keep(label, dict.fromkeys(keys, 1000))
            assert disk_usage(root) <= cache.stats().charged <= limit
        for label in (b"first", b"second", b"third"):
            cache.drop(label)
            assert disk_usage(root) <= cache.stats().charged <= limit


def test_the_files_of_pin_sets_are_in_everyones_account(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    sizes = {key_of(number): 100 for number in range(8000)}
    code = (
        "import sys; from lazyfs_cache import open_cache; from tests.support.cachefill import key_of\n"
        "with open_cache(sys.argv[1], None, upkeep=False) as cache:\n"
        "    cache.keep(b'other', {key_of(number): 100 for number in range(8000)})\n"
    )
    with open_cache(str(root), 64 << 20, upkeep=False) as cache:
        cache.keep(b"own", sizes)
        subprocess.run([sys.executable, "-c", code, root], check=True)
        assert disk_usage(root) <= cache.stats().charged
        cache.drop(b"other")
        cache.drop(b"own")
        assert disk_usage(root) <= cache.stats().charged


@pytest.mark.parametrize("step", ["save", "remove"])
def test_killed_between_a_set_and_its_commit(tmp_path: Path, step: str) -> None:
    """After the next process has opened the cache, the pinned values are those of the saved pin sets."""
    root = str(tmp_path / "cache")
    with open_cache(root, LIMIT) as cache:
        for key in (b"old", b"new"):
            cache.put(key, bytes(SIZE))
        cache.keep(b"old", {b"old": SIZE})
    child = os.fork()
    if child == 0:
        cache = open_cache(root, None, upkeep=False)
        usage.pin_set_bytes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        _ = cache.keep(b"new", {b"new": SIZE}) if step == "save" else cache.drop(b"old")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with open_cache(root, None, upkeep=False) as cache:
        kept = {key for keys in cache.kept().values() for key in keys}
        assert {key for key, entry in cache.entries() if entry.pins} == kept
        assert kept == ({b"old", b"new"} if step == "save" else set())


def test_opening_with_a_limit_below_the_pins_is_refused(tmp_path: Path) -> None:
    root = str(tmp_path / "cache")
    with open_cache(root, 4 * LIMIT) as cache:
        keys = {b"%d" % number: SIZE for number in range(150)}
        for key in keys:
            cache.put(key, bytes(SIZE))
        cache.keep(b"set", keys)
    with pytest.raises(PinSetTooLarge, match="are pinned, too many for a limit of"):
        open_cache(root, LIMIT)
    with open_cache(root, None) as cache:
        cache.drop(b"set")
    open_cache(root, LIMIT).close()


@pytest.mark.parametrize("reopened", [False, True])
def test_an_index_out_of_proportion_to_a_lowered_limit_is_made_anew(tmp_path: Path, reopened: bool) -> None:
    root = tmp_path / "cache"
    limit = 6 << 20
    cache = full(root, 64 << 20)
    if reopened:
        cache.close()
        cache = open_cache(str(root), limit, upkeep=False)
    else:
        cache.resize(limit)
    with cache:
        for _ in range(3):
            cache.upkeep()
        assert disk_usage(root) <= cache.stats().charged <= limit
        assert all(cache.put(b"new %d" % number, b"value") for number in range(50))
        assert disk_usage(root) <= cache.stats().charged <= limit
        assert cache.stats().entries > 50, "values have stayed"
