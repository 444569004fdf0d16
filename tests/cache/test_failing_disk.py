"""Disks that are full, read-only, broken or too small: reads continue without them, and no exception is
raised."""

import errno
import functools
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.files import journal, layout, value_files
from lazyfs_cache.index import database
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process import locks, rebuild
from tests.support.cachefill import Child, key_of, lose_index, value_of
from tests.support.kernel_caches import drop_kernel_caches
from tests.support.small_disks import break_filesystem, loop_ext4, mounted_disk
from tests.support.usage import disk_usage

LIMIT = 32 << 20


def read_through(cache: Cache, key: bytes) -> bytes:
    """Reads a value as a client does, with an origin that always answers."""
    value = cache.get(key)
    if value is None:
        claim = cache.claim(key)
        assert claim is not None
        with claim:
            value = value_of(key)
            cache.put(key, value)
    return value


def read_all(cache: Cache, numbers: range) -> None:
    """Reads, pins and unpins these values. Asserts that no read fails or returns a wrong value, whatever the
    state of the disk."""
    for number in numbers:
        key = key_of(number)
        assert read_through(cache, key) == value_of(key)
        cache.size(key)
        cache.read(key, 0, 100)
        cache.pin(key, b"test")
        cache.unpin(key, b"test")
        cache.stats()


def fill_up(directory: Path) -> None:
    """Fills the disk, as another program would."""
    command = ["dd", "if=/dev/zero", f"of={directory}/hog", "bs=64k"]
    written = subprocess.run(command, check=False, capture_output=True)
    assert b"No space left" in written.stderr


# -- full --------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_disk_smaller_than_the_limit(tmp_path: Path, kind: str) -> None:
    """Reads twice the disk's size through a cache whose limit is ten times the disk's size."""
    small = (
        loop_ext4(tmp_path, 64 << 20)
        if kind == "ext4"
        else mounted_disk(tmp_path / "mnt", "-t", "tmpfs", "-o", "size=64m", "tmpfs")
    )
    with small as directory, open_cache(str(directory / "cache"), 640 << 20) as cache:
        read_all(cache, range(1000))
        stats = cache.stats()
        assert stats.state == "on"
        assert stats.evictions > 0, "a full disk makes room"
        assert cache.get(key_of(999)) == value_of(key_of(999)), "and admits again"
        cache.close()


@pytest.mark.root
def test_a_disk_others_have_filled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with loop_ext4(tmp_path, 64 << 20) as directory, open_cache(str(directory / "cache"), LIMIT) as cache:
        read_all(cache, range(150))
        before = cache.stats()
        assert before.entries > 50
        fill_up(directory)
        read_all(cache, range(150, 500))
        stats = cache.stats()
        assert stats.state == "on"
        assert disk_usage(directory / "cache") <= stats.charged <= LIMIT
        (directory / "hog").unlink()
        read_all(cache, range(500, 600))
        assert cache.get(key_of(599)) == value_of(key_of(599))
    assert not [record for record in caplog.records if "turned off" in record.message]


@pytest.mark.root
def test_so_much_is_left_free(tmp_path: Path) -> None:
    keep_free = 30 << 20
    with (
        loop_ext4(tmp_path, 64 << 20) as directory,
        open_cache(str(directory / "cache"), LIMIT, keep_free=keep_free) as cache,
    ):
        for number in range(600):
            assert read_through(cache, key_of(number)) == value_of(key_of(number))
            left = os.statvfs(directory)
            assert left.f_bavail * left.f_frsize >= keep_free - (1 << 20)
        assert cache.stats().evictions > 0
        assert cache.get(key_of(599)) is not None


@pytest.mark.root
def test_inodes_are_left_for_others(tmp_path: Path) -> None:
    """A disk of 64 MB may have few inodes (16,384 with ext4). Values of one block each would use them up."""
    with (
        mounted_disk(tmp_path / "mnt", "-t", "tmpfs", "-o", "size=64m,nr_inodes=2000", "tmpfs") as directory,
        open_cache(str(directory / "cache"), LIMIT) as cache,
    ):
        for number in range(4000):
            assert cache.put(key_of(number), b"small")
            assert os.statvfs(directory).f_favail >= 2000 // 100
        assert cache.stats().refused == 0
        assert cache.stats().evictions >= 1500


# -- read-only and broken ------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_disk_that_turns_read_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with loop_ext4(tmp_path, 64 << 20) as directory, open_cache(str(directory / "cache"), LIMIT) as cache:
        read_all(cache, range(50))
        break_filesystem(tmp_path / "disk")
        read_all(cache, range(25, 100))
        assert cache.stats().state.startswith("off: "), "the metric"
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert "turned off" in warnings[0].getMessage()


def use_a_dying_disk(base: Path, ready: Callable[[], None]) -> None:
    with open_cache(str(base / "mnt" / "cache"), LIMIT) as cache:
        read_all(cache, range(100))
        os.sync()
        os.truncate(base / "disk", 1 << 20)  # reads beyond the end fail: the loop device returns EIO
        drop_kernel_caches(3)
        ready()
        read_all(cache, range(150))
        assert cache.stats().state.startswith("off: "), cache.stats()


@pytest.mark.root
def test_a_disk_that_cannot_be_read(tmp_path: Path) -> None:
    """Reading a bad page of LMDB's mapped file raises SIGBUS, so the reads run in a process of their own."""
    with loop_ext4(tmp_path, 64 << 20):
        child = Child(functools.partial(use_a_dying_disk, tmp_path))
        child.wait_until_ready()
        assert child.join() == 0


# -- every single call -----------------------------------------------------------------------------------


class FaultyOs:
    """Stands in for the os module. The named calls fail, except the first `after` of them."""

    def __init__(self, names: set[str], number: int, after: int) -> None:
        self.names = names
        self.number = number
        self.left = after
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.names:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                self.failed += 1
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments, **options)

        return call


CALLS = [
    "open",
    "pread",
    "pwrite",
    "write",
    "rename",
    "unlink",
    "stat",
    "fstat",
    "mkdir",
    "fstatvfs",
    "posix_fallocate",
    "ftruncate",
]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ESTALE]
)
@pytest.mark.parametrize("call", CALLS)
def test_no_failing_call_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, number: int
) -> None:
    root = tmp_path / "cache"
    with open_cache(str(root), 4 << 20, upkeep=False) as cache:
        read_all(cache, range(40))
        faulty = FaultyOs({call}, number, after=7)
        for module in (value_files, journal, locks):
            monkeypatch.setattr(module, "os", faulty)
        read_all(cache, range(30, 70))
        for small in range(1000, 1600):
            cache.put(key_of(small), b"small")
        cache.discard(key_of(35))
        cache.upkeep()
        assert faulty.failed, "the call is made"
        lasting = number in (errno.EIO, errno.EROFS, errno.ESTALE)
        assert cache.stats().state.startswith("off: ") == lasting
        assert sum("turned off" in record.message for record in caplog.records) == lasting
        monkeypatch.undo()
    with open_cache(str(root), 4 << 20, upkeep=False) as cache:
        cache.upkeep()
        found = cache.verify()
        assert found.damaged == 0
        assert disk_usage(root) <= cache.stats().charged <= 4 << 20
        read_all(cache, range(40))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("call", ["stat", "listdir", "scandir", "unlink", "pread"])
def test_a_rebuild_that_fails_is_borne(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """EIO is permanent, so the cache turns itself off. EMFILE is temporary, so the upkeep thread repeats the
    rebuild the next time."""
    root = tmp_path / "cache"
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        read_all(cache, range(40))
    shutil.rmtree(next(root.glob("index-*")))
    (root / layout.DATA / layout.FAN_OUT[0]).mkdir(exist_ok=True)
    (root / layout.DATA / layout.FAN_OUT[0] / "no key").touch()
    (root / layout.TMP / "0-1").touch()
    with open_cache(str(root), LIMIT, upkeep=False) as cache:
        faulty = FaultyOs({call}, number, after=0)
        for module in (value_files, rebuild, locks):
            monkeypatch.setattr(module, "os", faulty)
        cache.upkeep()
        assert faulty.failed, "the call is made"
        monkeypatch.undo()
        assert cache.stats().state.startswith("off: " if number == errno.EIO else "rebuilding")
        cache.upkeep()
        assert cache.stats().state.startswith("off: " if number == errno.EIO else "on")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (lmdb.DiskError("full"), "on"),
        (lmdb.MapFullError("full"), "on"),
        (lmdb.CorruptedError("torn"), "on"),
        (lmdb.PageNotFoundError("torn"), "on"),
        (lmdb.Error("I/O error"), "off: I/O error"),
    ],
)
def test_a_failing_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str
) -> None:
    """If the index is full, the cache continues. If it is corrupt, the cache sets it aside and rebuilds it.
    On other errors, the cache turns itself off."""
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
        read_all(cache, range(40))
        here = cache.stats().entries

        def fail(self: Transaction, key: bytes) -> None:
            monkeypatch.undo()
            raise error

        monkeypatch.setattr(Transaction, "touch", fail)
        cache.get(key_of(1))
        cache.upkeep()
        cache.upkeep()
        assert cache.stats().state == state
        if state == "on":
            assert cache.stats().entries == here
        assert (tmp_path / "cache" / layout.ASIDE).exists() == isinstance(
            error, (lmdb.CorruptedError, lmdb.PageNotFoundError)
        )
        read_all(cache, range(60))


def test_an_index_is_replaced_while_a_value_with_a_file_to_write_over_is_downloaded(tmp_path: Path) -> None:
    """The value was to be written over a spare file, which is lost with the old index. The value is not
    admitted, and the cache continues."""
    with open_cache(str(tmp_path / "cache"), 4 << 20, upkeep=False) as cache:
        for number in range(1000):
            assert cache.put(b"%d" % number, bytes(10_000))
            held = cache.reserve(b"key", 10_000)
            assert held is not None
            if held.recycled is not None:
                break
            held.release()
        assert held is not None
        assert held.recycled is not None
        lose_index(cache)
        with held:
            assert not cache.put(b"key", bytes(10_000), held)
        assert [name for name in os.listdir(tmp_path / "cache/tmp") if "-" in name] == []
        cache.upkeep()
        assert cache.stats().state == "on"
        assert cache.put(b"key", bytes(10_000))


def test_more_entries_than_the_map_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "map_size", lambda limit: 1 << 20)
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
        for number in range(5000):
            assert cache.put(key_of(number), b"small")
        assert cache.stats().evictions > 1000
        assert cache.stats().state == "on"
        assert cache.get(key_of(4999)) == b"small"


USE_LITTLE_MEMORY = """
import resource, sys
from lazyfs_cache import open_cache

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
with open_cache(sys.argv[1], 1 << 40, upkeep=False) as cache:
    assert cache.put(b"key", b"value")
    assert cache.get(b"key") == b"value"
    print(cache.stats().state)
"""


def test_a_large_limit_under_a_small_rlimit_as(tmp_path: Path) -> None:
    """Batch systems set RLIMIT_AS. The kernel then refuses the mapping of 85 GiB that a cache of 1 TiB would
    make.

    Runs in a new process, because a fork would inherit the test runner's mappings.
    """
    command = [sys.executable, "-c", USE_LITTLE_MEMORY, str(tmp_path / "cache")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "on\n"
