"""Values can be stored and read back. A value whose file is damaged is not returned."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files import layout, value_files

LIMIT = 16 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as opened:
        yield opened


def key_for(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def du(directory: Path) -> int:
    return int(subprocess.check_output(["du", "-sB1", str(directory)]).split()[0])


@pytest.mark.parametrize("size", [0, 1, 4095, 32767, 65535, 65536, 65537, 200_000, 3 << 20])
def test_a_value_comes_out_as_it_went_in(cache: Cache, size: int) -> None:
    value = os.urandom(size)
    assert cache.get(b"key") is None
    assert cache.put(b"key", value)
    assert cache.get(b"key") == value
    assert cache.size(b"key") == size
    for offset in (0, 1, 65535, 65536, size // 2, max(size - 1, 0), size, size + 1):
        for length in (0, 1, 4096, 65536, 131072, size + 1):
            assert cache.read(b"key", offset, length) == value[offset : offset + length]


@pytest.mark.parametrize("size", [10, 70_000, 1 << 20])
def test_every_flipped_byte_is_seen_and_the_value_can_be_put_again(
    cache: Cache, size: int, tmp_path: Path
) -> None:
    value = os.urandom(size)
    path = tmp_path / "cache" / "data" / layout.name_of(b"key")
    for place in {0, size // 2, size - 1, size, size + 3, size + 11, size + 19}:
        assert cache.put(b"key", value)
        sealed = bytearray(path.read_bytes())
        sealed[min(place, len(sealed) - 1)] ^= 0x40
        path.write_bytes(sealed)
        assert cache.get(b"key") is None
        assert cache.put(b"key", value)
        assert cache.get(b"key") == value
    assert cache.stats().damaged > 0


def test_the_bound_holds_and_the_least_recently_used_goes_first(cache: Cache, tmp_path: Path) -> None:
    for number in range(600):
        assert cache.put(key_for(number), os.urandom(50_000))
        assert cache.get(key_for(0)) is not None
        occupied = du(tmp_path / "cache")
        charged = cache.stats().charged
        assert occupied <= charged <= LIMIT
    here = [number for number in range(600) if cache.get(key_for(number)) is not None]
    assert here == [0, *range(here[1], 600)]
    assert occupied >= charged * 0.98


class Interrupted:
    """Stands in for the os module: calls `act` before the first pread."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __getattr__(self, name: str) -> Any:
        if name == "pread" and self._act is not None:
            act, self._act = self._act, None
            act()
        return getattr(os, name)


def test_a_file_written_over_under_its_reader_is_a_miss(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and read, the value is evicted and its file reused for another value."""
    before = bytes(1000)
    assert cache.put(key_for(0), before)
    place = os.stat(os.path.join(cache.root, layout.DATA, layout.name_of(key_for(0))))

    def fill() -> None:
        for number in range(1, 6000):
            assert cache.put(key_for(number), b"after" * 200)

    monkeypatch.setattr(value_files, "os", Interrupted(fill))
    assert cache.get(key_for(0)) is None
    monkeypatch.undo()
    inodes = {
        entry.stat().st_ino
        for found in os.scandir(os.path.join(cache.root, layout.DATA))
        for entry in os.scandir(found)
    }
    assert place.st_ino in inodes, "the file is another value's now"
    assert cache.stats().damaged == 0


def test_one_process_opens_one_cache(cache: Cache, tmp_path: Path) -> None:
    with open_cache(str(tmp_path / "cache"), LIMIT) as again:
        assert again is cache
    assert cache.put(b"still", b"open")


def test_what_is_handed_out_is_counted(cache: Cache) -> None:
    assert cache.put(b"key", b"v" * 1000)
    cache.get(b"key")
    cache.read(b"key", 900, 500)
    cache.get(b"other")
    assert (cache.stats().hits, cache.stats().misses, cache.stats().read_bytes) == (2, 1, 1100)


def test_a_reservation_is_good_once(cache: Cache) -> None:
    held = cache.reserve(b"key", 5)
    assert held is not None
    held.release()
    reserved = cache.stats().reserved
    assert cache.put(b"key", b"value", held), "with space of its own"
    cache.upkeep()
    assert cache.get(b"key") == b"value"
    assert cache.stats().reserved <= reserved
