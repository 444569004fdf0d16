"""Objects: one miss is one request; who leaves strands nobody; a dead cache disk fails no read."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import BadData, DeadlineExceeded, NotFound, TransportError
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object, store_objects


class GateFetcher:
    """A store whose answers wait until the gate is opened; counts requests and cancellations."""

    def __init__(self, directory: Path) -> None:
        self._store = LocalFetcher(str(directory))
        self.gate = threading.Event()
        self.requests: list[str] = []
        self.cancelled = 0
        self.failure: Exception | None = None

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        self.requests.append(request.path)
        while not self.gate.wait(0.01):
            try:
                check_cancelled()
            except BaseException:
                self.cancelled += 1
                raise
            if time.monotonic() >= request.deadline:
                raise DeadlineExceeded("late")
        if self.failure is not None:
            raise self.failure
        return self._store.fetch(request, check_cancelled)

    def close(self) -> None:
        pass


@pytest.fixture
def fetcher(tmp_path: Path) -> GateFetcher:
    return GateFetcher(tmp_path)


async def _asked(fetcher: GateFetcher, count: int = 1) -> None:
    """Returns when the store has been asked `count` times."""
    while len(fetcher.requests) < count:
        await trio.sleep(0.001)


async def test_fetched_verified_admitted(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    fetcher.gate.set()
    assert objects.at_hand(ref) is None
    assert objects.read_at_hand(ref, 0, 5) is None
    assert await objects.fetch(ref) == b"hello"
    assert objects.at_hand(ref) == b"hello"
    assert objects.read_at_hand(ref, 1, 100) == b"ello"
    assert objects.read_at_hand(ref, 5, 100) == b""


async def test_many_readers_are_one_request(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    got: list[bytes] = []

    async def read() -> None:
        got.append(await objects.fetch(ref))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(read)
        await _asked(fetcher)
        fetcher.gate.set()
    assert got == [b"hello"] * 50
    assert len(fetcher.requests) == 1


async def test_a_cancelled_first_reader_strands_nobody(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    got: list[bytes] = []

    async def read() -> None:
        got.append(await objects.fetch(ref))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(read)
            await _asked(fetcher)
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        fetcher.gate.set()
    assert got == [b"hello"]
    assert len(fetcher.requests) == 1
    assert fetcher.cancelled == 0


async def test_the_last_reader_to_leave_ends_the_request(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(objects.fetch, ref)
        await _asked(fetcher)
        nursery.cancel_scope.cancel()
    while not fetcher.cancelled:
        await trio.sleep(0.001)
    fetcher.gate.set()
    assert await objects.fetch(ref) == b"hello"  # nothing was left behind
    assert fetcher.cancelled == 1


@pytest.mark.parametrize(
    "failure", [TransportError("down"), NotFound("404"), BadData("bad"), ValueError("bug")]
)
async def test_a_failure_reaches_every_reader_and_the_next_one_asks_anew(
    tmp_path: Path, fetcher: GateFetcher, failure: Exception
) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    fetcher.failure = failure
    failures: list[Exception] = []

    async def read() -> None:
        with pytest.raises((TransportError, BadData)) as caught:
            await objects.fetch(ref)
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
        await _asked(fetcher)
        fetcher.gate.set()
    assert len(failures) == 5
    assert len(fetcher.requests) == 1
    fetcher.failure = None
    assert await objects.fetch(ref) == b"hello"


async def test_every_reader_has_its_own_deadline(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache(), patience=60)
    got: list[bytes] = []

    async def read() -> None:
        got.append(await objects.fetch(ref))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await _asked(fetcher)
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref, deadline=time.monotonic() + 0.05)
        fetcher.gate.set()
    assert got == [b"hello"]
    assert len(fetcher.requests) == 1


async def test_a_patient_reader_outlives_a_hasty_flight(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache())
    got: list[bytes] = []

    async def hasty() -> None:
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref, deadline=time.monotonic() + 0.05)

    async def patient() -> None:
        got.append(await objects.fetch(ref))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hasty)
        await _asked(fetcher)
        nursery.start_soon(patient)
        await _asked(fetcher, 2)
        fetcher.gate.set()
    assert got == [b"hello"]


async def test_a_dead_cache_disk_fails_no_read(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    cache = MemoryCache()
    cache.failing = True
    objects = Objects(fetcher, cache)
    fetcher.gate.set()
    for _ in range(2):
        assert objects.at_hand(ref) is None
        assert await objects.fetch(ref) == b"hello"


async def test_bad_bytes_are_never_admitted(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    wrong = ref_of(b"other")
    (tmp_path / f"data/{wrong.digest.hex()[:2]}").mkdir(exist_ok=True)
    (tmp_path / f"data/{ref.digest.hex()[:2]}/{ref.digest.hex()[2:]}").rename(
        tmp_path / f"data/{wrong.digest.hex()[:2]}/{wrong.digest.hex()[2:]}"
    )
    cache = MemoryCache()
    objects = Objects(fetcher, cache)
    fetcher.gate.set()
    with pytest.raises(BadData):
        await objects.fetch(wrong)
    assert not cache.held


async def test_what_another_process_brings_is_not_asked_for(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    cache = MemoryCache()
    objects = Objects(fetcher, cache)
    got: list[bytes] = []

    async def read() -> None:
        got.append(await objects.fetch(ref))

    async with trio.open_nursery() as nursery:
        other = cache.claim(ref.digest)
        assert other is not None
        with other:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            cache.put(ref.digest, b"hello")
    assert got == [b"hello"]
    assert not fetcher.requests


async def test_another_process_that_fails_strands_nobody(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    cache = MemoryCache()
    objects = Objects(fetcher, cache)
    fetcher.gate.set()
    other = cache.claim(ref.digest)
    assert other is not None
    with pytest.raises(DeadlineExceeded):
        await objects.fetch(ref, deadline=time.monotonic() + 0.1)
    with other:
        pass
    assert await objects.fetch(ref) == b"hello"


async def test_requests_under_way_are_bounded(tmp_path: Path, fetcher: GateFetcher) -> None:
    refs: list[ObjectRef] = list(store_objects(tmp_path, 10, 100))
    objects = Objects(fetcher, MemoryCache(), threads=3)
    async with trio.open_nursery() as nursery:
        for ref in refs:
            nursery.start_soon(objects.fetch, ref)
        await _asked(fetcher, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert len(fetcher.requests) == 3
        fetcher.gate.set()
    assert len(fetcher.requests) == 10
