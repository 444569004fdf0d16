"""Parallel downloads in one thread: the failure of one object of a batch affects no other."""

import errno
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from lazyfs.client import thread_group
from lazyfs.client.objects import THREADS, Objects
from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import BadData, LazyfsError, TransportError
from lazyfs.transport.curl_loop import CurlLoop
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import Cache, open_cache
from tests.support.cachefill import Child
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.store_files import store_objects
from tests.support.usage import disk_usage

LIMIT = 16 << 20
COUNT = 40


class Origin:
    """An origin of objects, a client that uses pycurl, and an empty cache."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.held = store_objects(directory / "store", COUNT, 20_000)
        self.refs = list(self.held)
        self.server = stack.enter_context(FaultServer(of_directory(directory / "store")))
        self.root = directory / "cache"
        self.cache: Cache = stack.enter_context(open_cache(str(self.root), LIMIT, upkeep=False))
        fetcher = open_fetcher(self.server.url, http="pycurl")
        assert isinstance(fetcher, HttpFetcher)
        self.fetcher = fetcher
        stack.callback(fetcher.close)
        self.objects = Objects(fetcher, self.cache)

    def fault(self, ref: ObjectRef, misbehave: Misbehave | None) -> None:
        if misbehave is None:
            del self.server.faults[f"/{object_path(ref.digest)}"]
        else:
            self.server.faults[f"/{object_path(ref.digest)}"] = misbehave

    def asked(self, ref: ObjectRef) -> int:
        return self.server.counts()[f"/{object_path(ref.digest)}"]

    async def fetch_all(
        self, refs: list[ObjectRef], ended: Callable[[ObjectRef, bytes | LazyfsError], None]
    ) -> None:
        async def one(ref: ObjectRef) -> None:
            try:
                ended(ref, await self.objects.fetch(ref))
            except LazyfsError as error:
                ended(ref, error)

        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(one, ref)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with ExitStack() as stack:
        yield Origin(tmp_path, stack)


async def test_without_descriptors_for_a_loop_objects_come_one_by_one(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the object that was asked for while the process had no descriptors left failed, and the
    next reader of this object waited in vain."""

    def no_descriptors(_: HttpFetcher) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as full:
        full.setattr(HttpFetcher, "loop", no_descriptors)
        assert await origin.objects.fetch(origin.refs[0]) == origin.held[origin.refs[0]]
    assert await origin.objects.fetch(origin.refs[1]) == origin.held[origin.refs[1]]
    assert origin.objects._downloads._loop is not None


async def test_one_miss_is_one_request_and_all_are_right_and_kept(origin: Origin) -> None:
    found: dict[ObjectRef, bytes | LazyfsError] = {}
    await origin.fetch_all(origin.refs * 5, found.__setitem__)
    assert found == origin.held
    assert all(origin.asked(ref) == 1 for ref in origin.refs)
    assert all(origin.cache.get(ref.digest) == plain for ref, plain in origin.held.items())
    assert all(origin.cache.claim(ref.digest) is not None for ref in origin.refs), "no claim is left"
    assert origin.server.connections <= THREADS


async def test_a_bad_object_of_a_batch_fails_alone_and_is_not_kept(origin: Origin) -> None:
    bad = origin.refs[7]
    origin.fault(bad, Misbehave.FLIP)
    found: dict[ObjectRef, bytes | LazyfsError] = {}
    await origin.fetch_all(origin.refs, found.__setitem__)
    assert isinstance(found.pop(bad), BadData)
    assert found == {ref: plain for ref, plain in origin.held.items() if ref != bad}
    assert origin.cache.size(bad.digest) is None
    origin.fault(bad, None)
    assert await origin.objects.fetch(bad) == origin.held[bad]


async def test_a_missing_object_that_another_process_asks_for_too_is_still_no_fault_of_the_server(
    tmp_path: Path, origin: Origin
) -> None:
    """Regression: a server may lack an object that only a profile names. If another process had claimed the
    object, a 404 for it was held against the server, and the object was asked for again, past all caches."""
    ref, later = origin.refs[:2]
    (tmp_path / "store" / object_path(ref.digest)).unlink()
    theirs = origin.cache.claim(ref.digest)
    assert theirs is not None
    ended = trio.Event()
    assert origin.objects.bring(ref, ended.set, optional=True)
    with trio.fail_after(10):
        assert await origin.objects.fetch(later) == origin.held[later], "the loop is past the first one"
        theirs.release()
        await ended.wait()
    assert origin.asked(ref) == 1
    assert not origin.fetcher.report().faults


async def test_what_is_here_is_not_given_for_an_object_of_another_size(origin: Origin) -> None:
    ref = origin.refs[3]
    assert await origin.objects.fetch(ref) == origin.held[ref]
    for size in (ref.size - 1, ref.size + 1):
        with pytest.raises(BadData):
            await origin.objects.fetch(ObjectRef(ref.digest, size))
    assert await origin.objects.fetch(ref) == origin.held[ref]


async def test_a_slow_object_holds_up_no_other_and_its_reader_may_leave(origin: Origin) -> None:
    slow = origin.refs[0]
    origin.fault(slow, Misbehave.HANG)
    found: dict[ObjectRef, bytes | LazyfsError] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(origin.objects.fetch, slow)
        await origin.fetch_all(origin.refs[1:], found.__setitem__)
        assert len(found) == COUNT - 1
        assert origin.cache.claim(slow.digest) is None, "it is under way"
        nursery.cancel_scope.cancel()
    # the claim is given up when the loop next looks for cancellations
    while (claim := origin.cache.claim(slow.digest)) is None:
        await trio.sleep(0.001)
    claim.release()
    origin.fault(slow, None)
    assert await origin.objects.fetch(slow) == origin.held[slow]


async def test_a_request_whose_first_path_fails_goes_on_over_the_next(tmp_path: Path, origin: Origin) -> None:
    with FaultServer(of_directory(tmp_path / "store")) as proxy:
        chain = open_fetcher(origin.server.url, f"{proxy.url};DIRECT", http="pycurl")
        objects = Objects(chain, origin.cache)
        bad = origin.refs[3]
        proxy.faults[f"{origin.server.url}/{object_path(bad.digest)}"] = Misbehave.S503
        proxy.faults[f"/{object_path(bad.digest)}"] = Misbehave.S503
        async with trio.open_nursery() as nursery:
            for ref in origin.refs:
                nursery.start_soon(objects.fetch, ref)
        assert all(origin.cache.get(ref.digest) == plain for ref, plain in origin.held.items())
        assert origin.asked(bad) == 1  # other objects too, while the proxy is put aside for its 503
        chain.close()


async def test_a_name_that_has_to_be_looked_up_is_no_obstacle(origin: Origin) -> None:
    fetcher = open_fetcher(origin.server.url.replace("127.0.0.1", "localhost"), http="pycurl")
    objects = Objects(fetcher, origin.cache)
    async with trio.open_nursery() as nursery:
        for ref in origin.refs:
            nursery.start_soon(objects.fetch, ref)
    assert all(origin.asked(ref) == 1 for ref in origin.refs)
    fetcher.close()


def hold(root: Path, keys: list[bytes], ready: Callable[[], None]) -> None:
    with open_cache(str(root), LIMIT) as cache:
        locks = cache.claim_many(keys)
        assert all(lock is not None for lock in locks)
        ready()
        time.sleep(600)


async def test_objects_that_a_stopped_process_has_claimed_hold_up_no_others(tmp_path: Path) -> None:
    held = store_objects(tmp_path / "store", COUNT, 20_000)
    theirs = list(held)[:5]
    child = Child(functools.partial(hold, tmp_path / "cache", [ref.digest for ref in theirs]))
    child.wait_until_ready()
    os.kill(child.pid, signal.SIGSTOP)
    order: list[ObjectRef] = []
    try:
        with ExitStack() as stack:
            origin = Origin(tmp_path, stack)
            await origin.fetch_all(list(held), lambda ref, _: order.append(ref))
            assert all(origin.cache.get(ref.digest) == plain for ref, plain in held.items())
            assert all(origin.asked(ref) == 1 for ref in held)
    finally:
        child.kill()
    assert set(order[-5:]) == set(theirs)


async def test_large_objects_are_verified_each_for_itself(tmp_path: Path, origin: Origin) -> None:
    """Other threads verify large answers while the next ones arrive."""
    held = store_objects(tmp_path / "store", 12, 600_000, seed=2)
    bad = list(held)[4]
    origin.fault(bad, Misbehave.FLIP)
    found: dict[ObjectRef, bytes | LazyfsError] = {}
    await origin.fetch_all(list(held), found.__setitem__)
    assert isinstance(found.pop(bad), BadData)
    assert found == {ref: plain for ref, plain in held.items() if ref != bad}
    assert {ref for ref in held if origin.cache.size(ref.digest) is None} == {bad}
    locks = origin.cache.claim_many([ref.digest for ref in held])
    assert all(lock is not None for lock in locks), "no claim is left"


async def test_a_small_cache_keeps_its_limit_while_batches_pass(tmp_path: Path, origin: Origin) -> None:
    refs = list(store_objects(tmp_path / "store", 60, 100_000, seed=1))
    with open_cache(str(tmp_path / "small"), 3 << 20, upkeep=False) as cache:
        objects = Objects(origin.fetcher, cache)
        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(objects.fetch, ref)
        stats = cache.stats()
        assert disk_usage(tmp_path / "small") <= stats.charged <= 3 << 20
        assert stats.evictions > 0
        assert objects.keeps


def test_with_its_run_the_thread_ends_and_gives_back_what_it_has_claimed(origin: Origin) -> None:
    slow = origin.refs[0]
    origin.fault(slow, Misbehave.HANG)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(origin.objects.fetch, slow)
            while not origin.asked(slow):
                await trio.sleep(0.001)
            assert origin.objects._downloads._threads._working
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert not origin.objects._downloads._threads._working
    lock = origin.cache.claim(slow.digest)
    assert lock is not None
    lock.release()


async def test_a_bug_in_the_loop_fails_what_is_under_way_and_no_more(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    advance = CurlLoop.advance

    def bug(loop: CurlLoop, timeout: float) -> Any:
        if not loop._running:
            return advance(loop, timeout)
        raise ValueError(f"bug after {timeout}")

    with monkeypatch.context() as broken:
        broken.setattr(CurlLoop, "advance", bug)
        with pytest.raises(TransportError, match="bug after"):
            await origin.objects.fetch(origin.refs[0])
    assert "bug after" in caplog.text
    found: dict[ObjectRef, bytes | LazyfsError] = {}
    await origin.fetch_all(origin.refs, found.__setitem__)
    assert found == origin.held


async def test_a_node_without_threads_fails_the_read_and_the_next_one_goes(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(thread_group, "start_thread_soon", none)
        with pytest.raises(TransportError, match="can't start new thread"):
            await origin.objects.fetch(origin.refs[0])
    assert await origin.objects.fetch(origin.refs[0]) == origin.held[origin.refs[0]]


async def test_objects_that_arrive_together_call_the_event_loop_once(origin: Origin) -> None:
    calls: list[Callable[[], object]] = []

    class Token:
        def run_sync_soon(self, call: Callable[[], object]) -> None:
            calls.append(call)

    await origin.objects.fetch(origin.refs[0])
    loop = origin.objects._loop
    assert loop is not None
    loop._token = Token()  # type: ignore[assignment]
    start = functools.partial(
        origin.objects._start, deadline=time.monotonic() + 30, optional=False, ahead=False
    )
    flights = [start(ref) for ref in origin.refs[1:THREADS]]
    while len(loop._waiting) < len(flights):
        await trio.sleep(0.001)
    assert len(calls) == 1
    calls[0]()
    assert all(flight.plain == origin.held[flight.ref] for flight in flights)
