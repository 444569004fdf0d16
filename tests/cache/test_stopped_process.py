"""A process is stopped inside a transaction, and other processes wait for its index lock."""

import fcntl
from pathlib import Path

import pytest

from lazyfs_cache import open_cache
from lazyfs_cache.files import layout
from lazyfs_cache.process import locks

LIMIT = 200 << 20


class Clock:
    """Stands in for the time module: sleeping takes no real time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_process_stopped_inside_a_transaction_does_not_delay_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two waits for the lock take the whole timeout, and later ones are short. When the stopped
    process continues, waits may be long again."""
    root = tmp_path / "cache"
    clock = Clock()
    with open_cache(str(root), LIMIT, lock_timeout=2, upkeep=False) as cache:
        assert cache.put(b"here", b"value")
        monkeypatch.setattr(locks, "time", clock)
        with (root / layout.LOCK).open() as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            for _ in range(100):
                assert cache.reserve(b"key", 50 << 20) is None
            assert clock.now < 2 * 2 + 98 * 0.11
            assert cache.get(b"here") == b"value"
        assert cache.reserve(b"key", 50 << 20) is not None
        before = clock.now
        with (root / layout.LOCK).open() as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            assert not cache.pin(b"here", b"test")
        assert clock.now - before > 1.9
        assert cache.stats().state == "on"
