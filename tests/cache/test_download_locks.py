"""A download lock whose holder is stopped, slow or dead delays other processes only for a short time."""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lazyfs_cache import Cache, open_cache
from lazyfs_cache.policy.waiting import LANE_PATIENCE, LANES, lane, lane_left
from tests.support.cachefill import Child

LIMIT = 16 << 20
FIRST, SECOND, AFTER = (LANE_PATIENCE * (number + 0.5) for number in range(LANES + 1))
"""Seconds that a client has already waited when it claims the first download lock (lane) of a value, the
second one, and none any more."""


def hold(root: Path, ready: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT) as cache:
        lock = cache.claim(b"key")
        assert lock is not None
        ready()
        time.sleep(600)


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Child]:
    """Yields a process that was stopped while it downloads b"key"."""
    child = Child(functools.partial(hold, tmp_path / "cache"))
    child.wait_until_ready()
    os.kill(child.pid, signal.SIGSTOP)
    yield child
    child.kill()


@pytest.fixture
def cache(tmp_path: Path, stopped: Child) -> Iterator[Cache]:
    assert stopped.pid
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as opened:
        yield opened


def test_lanes_come_one_after_the_other() -> None:
    assert [lane(0), lane(FIRST), lane(LANE_PATIENCE), lane(SECOND), lane(AFTER)] == [0, 0, 1, 1, None]
    assert lane_left(0) == LANE_PATIENCE
    assert lane_left(FIRST) == lane_left(SECOND) == LANE_PATIENCE / 2
    assert lane_left(AFTER) == 0


def test_one_of_many_goes_beside_a_stopped_holder_and_in_the_end_all_do(cache: Cache) -> None:
    assert cache.claim(b"key") is None
    assert cache.claim(b"key", FIRST) is None
    beside = cache.claim(b"key", SECOND)
    assert beside is not None
    assert cache.claim(b"key", SECOND) is None, "one is enough"
    with cache.claim(b"key", AFTER) or pytest.fail("waited for long enough"):
        pass
    assert cache.claim(b"key", SECOND) is None, "who holds nothing ends no lock"
    beside.release()
    with cache.claim(b"key", SECOND) or pytest.fail("the second lane is free"):
        assert cache.claim(b"key") is None, "the first is not"


def test_a_wait_ends_with_its_lane(cache: Cache) -> None:
    assert not cache.wait(b"key", 0.01)
    assert cache.wait(b"key", 60, LANE_PATIENCE - 0.01), "time to ask for the second lane"
    assert cache.wait(b"key", 60, SECOND), "which is free"
    with cache.claim(b"key", SECOND) or pytest.fail("the second lane is free"):
        assert not cache.wait(b"key", 0.01, SECOND)
        assert cache.wait(b"key", 60, LANES * LANE_PATIENCE - 0.01)
    assert cache.wait(b"key", 60, AFTER)


def test_other_keys_are_not_delayed(cache: Cache) -> None:
    with cache.claim(b"other") or pytest.fail("nobody has it"):
        assert cache.claim(b"other") is None


def bring(root: Path, downloads: Path, ready: Callable[[], None]) -> None:
    """Claims, waits and downloads as a client does. States in each claim how long it has waited so far."""
    with open_cache(str(root), LIMIT) as cache:
        ready()
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            lock = cache.claim(b"key", waited)
            if lock is None:
                cache.wait(b"key", 0.2, waited)
                continue
            with lock:
                if cache.get(b"key") is None:
                    with downloads.open("ab") as file:
                        file.write(b".")
                    assert cache.put(b"key", b"value")
                return


def test_beside_a_stopped_holder_one_process_downloads_for_all(tmp_path: Path, stopped: Child) -> None:
    assert stopped.pid
    work = functools.partial(bring, tmp_path / "cache", tmp_path / "downloads")
    children = [Child(work) for _ in range(4)]
    assert [child.join() for child in children] == [0] * 4
    assert (tmp_path / "downloads").read_bytes() == b"."
