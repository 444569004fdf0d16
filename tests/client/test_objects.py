"""Objects: concurrent reads of a missing object make one request, a cancelled reader does not affect the
others, and a dead cache disk fails no read."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core.digest import ObjectRef, ref_of, sha256
from lazyfs.core.errors import (
    BadData,
    DeadlineExceeded,
    FormatError,
    LazyfsError,
    NotFound,
    Outage,
    TransportError,
)
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher
from lazyfs_cache import NullCache, open_cache
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object, store_objects


@pytest.fixture
def fetcher(tmp_path: Path) -> GateFetcher:
    return GateFetcher(tmp_path)


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
        await fetcher.asked()
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
            await fetcher.asked()
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
        await fetcher.asked()
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
        await fetcher.asked()
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
        await fetcher.asked()
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref, deadline=time.monotonic() + 0.05)
        fetcher.gate.set()
    assert got == [b"hello"]
    assert len(fetcher.requests) == 1


async def test_a_failure_answers_for_a_moment_but_not_for_the_more_patient(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    """The kernel repeats a request at once when its read-ahead has failed. To repeat the wait as well would
    double the deadline, so the failure is remembered for a moment."""
    ref, other = store_objects(tmp_path, 2, 100)
    objects = Objects(fetcher, MemoryCache(), patience=0.2)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref)
    assert len(fetcher.requests) == 1
    with pytest.MonkeyPatch.context() as patch:
        for module in ("flight", "objects"):
            patch.setattr(f"lazyfs.client.{module}.ECHO", 0.0)
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref)
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(other)
    assert len(fetcher.requests) == 3
    assert len(objects._flights) <= 1
    fetcher.gate.set()
    await objects.fetch(ref, deadline=time.monotonic() + 30)


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
        await fetcher.asked()
        nursery.start_soon(patient)
        await fetcher.asked(2)
        fetcher.gate.set()
    assert got == [b"hello"]


async def test_a_reader_has_all_its_patience_for_what_was_fetched_ahead(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    """Regression: who read an object that had been under way for 29 s got EIO after one."""
    ref = store_object(tmp_path, b"x" * 100)
    objects = Objects(fetcher, MemoryCache(), patience=3)
    objects.bring(ref, lambda: None)
    await trio.sleep(2.5)
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            got.append(await objects.fetch(ref))

        nursery.start_soon(read)
        await trio.sleep(1)  # the flight that was begun ahead has failed
        fetcher.gate.set()
    assert got == [b"x" * 100]


async def test_nothing_is_asked_for_after_the_deadline(tmp_path: Path, fetcher: GateFetcher) -> None:
    """Regression: a reader whose flight failed at its own deadline began others for half a second."""
    ref = store_object(tmp_path, b"x" * 100)
    objects = Objects(fetcher, MemoryCache(), patience=3)
    async with trio.open_nursery() as nursery:

        async def hasty() -> None:
            with pytest.raises(DeadlineExceeded):
                await objects.fetch(ref, deadline=time.monotonic() + 1)

        nursery.start_soon(hasty)
        await fetcher.asked(1)
        with pytest.raises(DeadlineExceeded):
            await objects.fetch(ref)
    assert len(fetcher.requests) == 2


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
    assert not cache.proven


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
        await fetcher.asked(3)
        await trio.testing.wait_all_tasks_blocked()
        assert len(fetcher.requests) == 3
        fetcher.gate.set()
    assert len(fetcher.requests) == 10


async def test_with_wait_reads_are_held_through_an_outage(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache(), on_outage="wait")
    fetcher.failure = Outage("every path is down")
    fetcher.gate.set()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await objects.fetch(ref, deadline=time.monotonic() + 0.05))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await fetcher.asked(2)  # the first try has failed and the read goes on
        fetcher.failure = None
    assert got == [b"hello"]


async def test_held_reads_can_be_killed(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache(), on_outage="wait", patience=0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(objects.fetch, ref)
        await fetcher.asked(2)
        nursery.cancel_scope.cancel()
    assert not objects._flights


async def test_with_wait_what_is_missing_or_bad_still_fails(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello")
    objects = Objects(fetcher, MemoryCache(), on_outage="wait")
    fetcher.gate.set()
    for failure in (NotFound("404"), BadData("bad")):
        fetcher.failure = failure
        with pytest.raises(type(failure)):
            await objects.fetch(ref)
    fetcher.failure = Outage("down")
    with pytest.raises(Outage):
        await objects.fetch(ref, ahead=True)


async def test_over_the_real_cache(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello" * 100_000)
    fetcher.gate.set()
    with open_cache(str(tmp_path / "cache"), 64 << 20) as cache:
        objects = Objects(fetcher, cache)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(objects.fetch, ref)
        assert objects.at_hand(ref) == b"hello" * 100_000
        assert objects.read_at_hand(ref, 70_000, 5) == b"hello"
        assert objects.keeps
    assert len(fetcher.requests) == 1


async def test_a_reader_whose_deadline_has_passed_is_told_so(tmp_path: Path, fetcher: GateFetcher) -> None:
    """A call for several objects can use up all its time on the first one. The next fetch must then raise a
    LazyfsError, because any other exception ends a pyfuse3 session and its mount."""
    joined, alone = store_object(tmp_path, b"joined"), store_object(tmp_path, b"alone")
    objects = Objects(fetcher, MemoryCache())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(objects.fetch, joined)
        await fetcher.asked()
        for ref in (joined, alone):
            with pytest.raises(DeadlineExceeded):
                await objects.fetch(ref, deadline=time.monotonic() - 1)
        fetcher.gate.set()


async def test_a_reader_who_joins_what_a_profile_had_asked_for_asks_every_server(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    """A profile may name an object that does not exist, so its prefetch takes the first 404 as the answer and
    blames no server. A read that joins this prefetch must then ask all servers itself."""
    optional: list[bool] = []
    fetch = fetcher.fetch

    class Noting(GateFetcher):
        def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
            optional.append(request.may_be_missing)
            return fetch(request, check_cancelled)

    objects = Objects(Noting(tmp_path), MemoryCache())
    ref = ref_of(b"not in the store")
    assert objects.bring(ref, lambda: None, optional=True)
    await fetcher.asked()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(NotFound):
                await objects.fetch(ref)

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        fetcher.gate.set()
    assert optional == [True, False]


@pytest.mark.parametrize(
    "failure",
    [NotFound("404"), FormatError("no frame"), DeadlineExceeded("late")],
    ids=lambda one: type(one).__name__,
)
async def test_what_never_comes_pushes_nothing_out(
    tmp_path: Path, fetcher: GateFetcher, failure: LazyfsError
) -> None:
    """Regression: a catalog named missing files of large sizes. To make room for these, 53 of 61 objects were
    evicted."""
    fetcher.gate.set()
    refs = [store_object(tmp_path, b"%d" % number * 100_000) for number in range(100, 130)]
    with open_cache(str(tmp_path / "cache"), 16 << 20, upkeep=False) as cache:
        objects = Objects(fetcher, cache)
        for ref in refs:
            await objects.fetch(ref)
        cache.upkeep()  # enters them in the index
        here = {key for key, _ in cache.entries()}
        assert len(here) == len(refs)
        fetcher.failure = failure
        for number in range(40):
            with pytest.raises(type(failure)):
                await objects.fetch(ObjectRef(sha256(b"%d" % number), 3 << 20))
        cache.upkeep()
        assert {key for key, _ in cache.entries()} == here
        assert cache.stats().evictions == 0


async def test_bytes_under_way_are_bounded(tmp_path: Path, fetcher: GateFetcher) -> None:
    """An object that is being downloaded takes three times its size in memory."""
    refs = [store_object(tmp_path, bytes([number]) * (8 << 20)) for number in range(6)]
    objects = Objects(fetcher, MemoryCache())
    async with trio.open_nursery() as nursery:
        for ref in refs:
            nursery.start_soon(objects.fetch, ref)
        await fetcher.asked(4)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(fetcher.requests) == 4
        fetcher.gate.set()
    assert len(fetcher.requests) == 6


async def test_one_that_is_given_up_while_it_waits_makes_way(tmp_path: Path, fetcher: GateFetcher) -> None:
    first, second, third = (store_object(tmp_path, bytes([number]) * (16 << 20)) for number in range(3))
    objects = Objects(fetcher, MemoryCache())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(objects.fetch, first)
        nursery.start_soon(objects.fetch, second)
        await fetcher.asked(2)
        with trio.move_on_after(0.05):
            await objects.fetch(third)
        nursery.start_soon(objects.fetch, third)
        fetcher.gate.set()
    assert len(fetcher.requests) == 3


async def test_an_object_of_another_size_is_not_at_hand(tmp_path: Path, fetcher: GateFetcher) -> None:
    """A catalog may state a wrong size for a cached object. Under this size, the object is not found in the
    cache."""
    fetcher.gate.set()
    ref = store_object(tmp_path, b"hello" * 100)
    with open_cache(str(tmp_path / "cache"), 16 << 20, upkeep=False) as cache:
        objects = Objects(fetcher, cache)
        await objects.fetch(ref)
        assert objects.read_at_hand(ref, 0, 5) == b"hello"
        for size in (5, 499, 501, 1 << 24):
            assert objects.read_at_hand(ObjectRef(ref.digest, size), 0, 5) is None
            with pytest.raises(BadData):
                await objects.fetch(ObjectRef(ref.digest, size))
            assert objects.at_hand(ObjectRef(ref.digest, size)) is None


async def test_a_reader_does_not_join_a_request_that_expects_another_size(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    """A wrong entry, or a wrong profile, states a wrong size for an object. Its request fails, and a reader
    with the right size, who comes meanwhile, makes a request of its own."""
    ref = store_object(tmp_path, b"hello" * 100)
    wrong = ObjectRef(ref.digest, 5)
    objects = Objects(fetcher, MemoryCache())
    failed: list[bool] = []
    async with trio.open_nursery() as nursery:

        async def read_wrong() -> None:
            with pytest.raises(BadData):
                await objects.fetch(wrong)
            failed.append(True)

        nursery.start_soon(read_wrong)
        await fetcher.asked(1)
        got: list[bytes] = []

        async def read() -> None:
            got.append(await objects.fetch(ref))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        fetcher.gate.set()
    assert (failed, got) == ([True], [b"hello" * 100])


async def test_a_digest_alone_opens_nothing_that_needed_a_credential(
    tmp_path: Path, fetcher: GateFetcher
) -> None:
    """Public repositories share cached objects with each other. A private repository shares none."""
    fetcher.gate.set()
    ref = store_object(tmp_path, b"secret")
    with open_cache(str(tmp_path / "cache"), 16 << 20, upkeep=False) as cache:
        private = Objects(fetcher, cache, namespace=b"one")
        await private.fetch(ref)
        assert private.at_hand(ref) == b"secret"
        assert Objects(fetcher, cache, namespace=b"one").at_hand(ref) == b"secret"
        empty = tmp_path / "empty"
        empty.mkdir()
        for namespace in (b"", b"two"):
            stranger = Objects(LocalFetcher(str(empty)), cache, namespace=namespace)
            assert stranger.at_hand(ref) is None
            assert stranger.read_at_hand(ref, 0, 1) is None
            with pytest.raises(NotFound):
                await stranger.fetch(ref)
        public = store_object(tmp_path, b"public")
        await Objects(fetcher, cache).fetch(public)
        assert Objects(LocalFetcher(str(empty)), cache).at_hand(public) == b"public"


async def test_without_a_cache(tmp_path: Path, fetcher: GateFetcher) -> None:
    ref = store_object(tmp_path, b"hello" * 100_000)
    fetcher.gate.set()
    nothing = Objects(fetcher, NullCache())
    assert await nothing.fetch(ref) == b"hello" * 100_000
    assert not nothing.keeps
