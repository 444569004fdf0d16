"""A process, or another mount of this process, is stopped or slow while it downloads an object. A reader
waits only briefly for that download, then downloads the object itself."""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import trio

from lazyfs.client.objects import Objects
from lazyfs.core.digest import Digest
from lazyfs.transport.local import LocalFetcher
from lazyfs_cache import open_cache
from tests.support.cachefill import Child
from tests.support.gate_fetcher import GateFetcher
from tests.support.store_files import store_object

LIMIT = 16 << 20
PATIENCE = 20.0
"""Deadline of a read in seconds. A reader that only waited for the other download would fail."""


def hold(root: Path, key: Digest, size: int, ready: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT) as cache:
        lock, reserved = cache.claim(key), cache.reserve(key, size)
        assert lock is not None
        assert reserved is not None
        ready()
        time.sleep(600)


async def test_a_stopped_process_keeps_nobody_from_an_object(tmp_path: Path) -> None:
    ref = store_object(tmp_path / "store", b"hello")
    child = Child(functools.partial(hold, tmp_path / "cache", ref.digest, ref.size))
    child.wait_until_ready()
    os.kill(child.pid, signal.SIGSTOP)
    try:
        with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
            objects = Objects(LocalFetcher(str(tmp_path / "store")), cache, patience=PATIENCE)
            assert await objects.fetch(ref) == b"hello"
            assert cache.get(ref.digest) == b"hello", "it is here for the others"
            assert cache.claim(ref.digest) is None, "the holder is there still"
    finally:
        child.kill()


async def test_a_mount_on_a_bad_line_keeps_no_other_from_an_object(tmp_path: Path) -> None:
    ref = store_object(tmp_path / "store", b"hello")
    slow = GateFetcher(tmp_path / "store")
    with open_cache(str(tmp_path / "cache"), LIMIT, upkeep=False) as cache:
        theirs = Objects(slow, cache, patience=600)
        ours = Objects(LocalFetcher(str(tmp_path / "store")), cache, patience=PATIENCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.fetch, ref)
            await slow.asked()
            assert await ours.fetch(ref) == b"hello"
            slow.gate.set()
        assert cache.stats().entries == 1
