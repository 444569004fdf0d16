"""Prefetching in the background: each object is fetched into the cache once, within bounds. A reader of the
object waits for the same request."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.objects import UNDER_WAY, Objects
from lazyfs.core.digest import ObjectRef, object_path, sha256
from lazyfs.prefetch.line_share import LineShare
from lazyfs.prefetch.queue import BYTES, PrefetchBudget, PrefetchQueue
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_objects


@pytest.fixture
def fetcher(tmp_path: Path) -> GateFetcher:
    return GateFetcher(tmp_path)


async def test_objects_come_into_the_cache_once(tmp_path: Path, fetcher: GateFetcher) -> None:
    held = store_objects(tmp_path, 8, 1000)
    cache = MemoryCache()
    queue = PrefetchQueue(Objects(fetcher, cache))
    for _ in range(3):
        queue.start(held)
    fetcher.gate.set()
    while len(cache.proven) < 8:
        await trio.sleep(0.001)
    queue.start(held)
    assert len(fetcher.requests) == 8
    assert queue.started == 8


async def test_a_reader_joins_the_flight(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref, plain = next(iter(store_objects(tmp_path, 1, 1000).items()))
    objects = Objects(fetcher, MemoryCache())
    PrefetchQueue(objects).start([ref])
    await fetcher.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(objects.fetch, ref)
        await trio.testing.wait_all_tasks_blocked()
        fetcher.gate.set()
    assert objects.at_hand(ref) == plain
    assert len(fetcher.requests) == 1


async def test_bytes_and_requests_are_bounded(tmp_path: Path, fetcher: GateFetcher) -> None:
    held = store_objects(tmp_path, 10, 1000)
    cache = MemoryCache()
    queue = PrefetchQueue(Objects(fetcher, cache), LineShare(5), most=5000)
    queue.start(held)
    await fetcher.asked(2)
    await trio.testing.wait_all_tasks_blocked()
    assert len(fetcher.requests) == 2
    assert (queue.started, queue.dropped) == (5, 5)
    fetcher.gate.set()
    with trio.fail_after(30):
        while not queue.idle:  # a thread tells the queue a moment after the cache has the object
            await trio.sleep(0.001)
    assert len(cache.proven) == 5
    queue.start(held)
    assert queue.started == 10


async def test_large_chunks_leave_room_for_a_reader(fetcher: GateFetcher, nursery: trio.Nursery) -> None:
    """Regression: a reader's chunk waited for all prefetched chunks, and failed on a slow line."""
    size, share = 4 << 20, LineShare().bytes
    chunks = [ObjectRef(sha256(b"%d" % number), size) for number in range(BYTES // size + 1)]
    objects = Objects(fetcher, MemoryCache())
    queue = PrefetchQueue(objects)
    queue.start(chunks[1:])
    await fetcher.asked(share // size)
    await trio.testing.wait_all_tasks_blocked()
    assert queue.started == BYTES // size
    assert len(fetcher.requests) == share // size
    nursery.start_soon(objects.fetch, chunks[0])
    await fetcher.asked(share // size + 1)
    assert fetcher.requests[-1] == object_path(chunks[0].digest)
    nursery.cancel_scope.cancel()


async def test_failures_are_quiet_and_forgotten(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = next(iter(store_objects(tmp_path, 1, 1000)))
    fetcher.failure = ConnectionError("bug")
    cache = MemoryCache()
    queue = PrefetchQueue(Objects(fetcher, cache))
    fetcher.gate.set()
    queue.start([ref])
    await fetcher.asked()
    while not queue.idle:
        await trio.sleep(0.001)
    fetcher.failure = None
    queue.start([ref])
    while not cache.proven:
        await trio.sleep(0.001)


async def test_nothing_is_fetched_twice_for_a_cache_that_keeps_nothing(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    first, second = store_objects(tmp_path, 2, 1000)
    cache = MemoryCache()
    cache.failing = True
    objects = Objects(fetcher, cache)
    fetcher.gate.set()
    await objects.fetch(first)
    PrefetchQueue(objects).start([second])
    await trio.testing.wait_all_tasks_blocked()
    assert len(fetcher.requests) == 1


async def test_a_bug_is_logged_and_ends_that_object_alone(
    tmp_path: Path, fetcher: GateFetcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = store_objects(tmp_path, 2, 1000)
    cache = MemoryCache()
    objects = Objects(fetcher, cache)
    bring = objects.bring

    def bug(ref: ObjectRef, ended: Callable[[], None]) -> bool:
        if ref == bad:
            raise RuntimeError(f"bug at {ref.size}")
        return bring(ref, ended)

    monkeypatch.setattr(objects, "bring", bug)
    fetcher.gate.set()
    queue = PrefetchQueue(objects)
    queue.start([bad, good])
    with trio.fail_after(30):
        while not queue.idle:  # the thread tells the queue a moment after the cache has the object
            await trio.sleep(0.001)
    assert good.digest in cache.proven
    assert bad.digest not in cache.proven
    assert "bug at 1000" in caplog.text


async def test_the_share_that_is_set_bounds_requests_and_bytes(fetcher: GateFetcher) -> None:
    """With a share of 25 percent, the queue uses at most 11 of the mount's 44 requests, and 8 of its 32 MiB
    under way. A reader's own request is sent at once."""
    small = [ObjectRef(sha256(b"small %d" % number), 1000) for number in range(50)]
    large = [ObjectRef(sha256(b"large %d" % number), 3 << 20) for number in range(9)]
    reader = ObjectRef(sha256(b"reader"), 3 << 20)
    for held, begun in ((small, 11), (large, 2)):
        fetcher.requests.clear()
        objects = Objects(fetcher, MemoryCache())
        PrefetchQueue(objects, LineShare(25)).start(held)
        await fetcher.asked(begun)
        await trio.testing.wait_all_tasks_blocked()
        assert len(fetcher.requests) == begun
        async with trio.open_nursery() as nursery:
            nursery.start_soon(objects.fetch, reader)
            await fetcher.asked(begun + 1)
            assert fetcher.requests[-1] == object_path(reader.digest)
            nursery.cancel_scope.cancel()
        objects.close()


async def test_repositories_of_one_mount_have_one_share(fetcher: GateFetcher) -> None:
    """Each repository may have one request under way, however full the share is."""
    share = LineShare(25)
    for name in (b"a", b"b", b"c"):
        held = [ObjectRef(sha256(name + b"%d" % number), 3 << 20) for number in range(9)]
        PrefetchQueue(Objects(fetcher, MemoryCache()), share).start(held)
    await fetcher.asked(4)
    await trio.testing.wait_all_tasks_blocked()
    assert len(fetcher.requests) == 4
    assert share.allowance.taken == 4 * (3 << 20) > share.bytes == UNDER_WAY // 4


async def test_two_images_that_start_at_once_come_in_turns(tmp_path: Path, fetcher: GateFetcher) -> None:
    """The second image is added while 40 objects of the first wait. From then on, requests for the two images
    alternate."""
    held = list(store_objects(tmp_path, 60, 1000))
    first, second = held[:40], held[40:]
    cache = MemoryCache()
    queue = PrefetchQueue(Objects(fetcher, cache), LineShare(4))  # one request at a time
    queue.start(first, 1)
    queue.start(second, 2)
    fetcher.gate.set()
    while len(cache.proven) < 60:
        await trio.sleep(0.001)
    of_second = {object_path(ref.digest) for ref in second}
    assert fetcher.requests[0] == object_path(first[0].digest)
    turns = [path in of_second for path in fetcher.requests[1:39]]
    assert turns.count(True) == 19
    assert all(one != other for one, other in pairwise(turns))


def test_an_image_that_asks_late_has_room_too() -> None:
    """Although the first image has filled the budget, the second one still gets half of the budget, and no
    more."""
    refs = [ObjectRef(sha256(b"%d" % number), 1000) for number in range(20)]
    budget = PrefetchBudget(10_000)
    for number, ref in enumerate(refs[:12]):
        assert budget.has_room(ref, "first") == (number < 10)
        if number < 10:
            budget.take(ref, "first")
    for number, ref in enumerate(refs[12:]):
        assert budget.has_room(ref, "second") == (number < 5)
        if number < 5:
            budget.take(ref, "second")
    for ref in [*refs[:10], *refs[12:17]]:
        budget.give_back(ref)
    assert not budget.coming
    assert all(budget.has_room(ref, "third") for ref in refs)
