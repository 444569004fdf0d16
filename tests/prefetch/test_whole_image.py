"""The job that fetches a whole image: readers have priority, each object is fetched once, and the end is
reported."""

from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.client.demand import Demand
from lazyfs.client.objects import Objects
from lazyfs.core.digest import ObjectRef, object_path, sha256
from lazyfs.core.errors import TransportError
from lazyfs.prefetch.pace import Pace
from lazyfs.prefetch.whole_image import AT_ONCE, LEASE, WholeImage
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects as Made
from tests.support.images import file, image, packed
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object


class Scene:
    """An image in a store whose answers wait until the test opens a gate."""

    def __init__(self, directory: Path, limit: int = 1 << 30) -> None:
        self.made, self.cache, self.demand = Made(), MemoryCache(), Demand()
        spec = {
            "etc": packed(self.made, {"a": b"a", "b": b"b"}),
            "large": file(self.made, bytes(range(256)) * 1024, shift=16),
            "again": file(self.made, bytes(range(256)) * 1024, shift=16),
            "one": file(self.made, b"one"),
            "many": {f"{at}": file(self.made, b"%d" % at) for at in range(30)},
        }
        self.top = image(self.made, spec, split=16).ref
        for plain in self.made.values():
            store_object(directory, plain)
        self.fetcher = GateFetcher(directory)
        self.objects = Objects(self.fetcher, self.cache)
        self.now, self.limit = 0.0, limit

    def job(self, rate: float | None = None, at_once: int = AT_ONCE) -> WholeImage:
        """Returns a job whose clock moves on only when it pauses."""
        return WholeImage(
            self.objects,
            self.demand,
            lambda: self.limit,
            self.top,
            at_once=at_once,
            rate=rate,
            clock=lambda: self.now,
            pause=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        end = self.now + seconds
        await trio.lowlevel.checkpoint()
        self.now = max(self.now, end)


async def test_everything_comes_once_and_is_counted(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.fetcher.gate.set()
    job = scene.job()
    await job.run()
    found = job.progress()
    assert (found.state, found.problem) == ("done", "")
    assert sorted(scene.fetcher.requests) == sorted(map(object_path, scene.made))
    assert found.objects == found.here_objects == len(scene.made)
    assert found.bytes == found.here_bytes == found.fetched_bytes == sum(map(len, scene.made.values()))
    again = scene.job()
    await again.run()
    assert again.progress().fetched_bytes == 0
    assert again.progress().here_bytes == found.bytes


async def test_what_is_here_is_passed_over(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.fetcher.gate.set()
    scene.cache.proven[sha256(b"one")] = b"one"
    job = scene.job()
    await job.run()
    assert object_path(sha256(b"one")) not in scene.fetcher.requests
    assert job.progress().here_bytes == job.progress().bytes == job.progress().fetched_bytes + 3


async def test_readers_go_first(tmp_path: Path, nursery: trio.Nursery) -> None:
    scene = Scene(tmp_path)
    job = scene.job()
    scene.demand.began()
    nursery.start_soon(job.run)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.fetcher.requests == []
    scene.demand.ended()
    scene.fetcher.gate.set()
    while job.state != "fetching":
        await trio.sleep(0.001)
    scene.fetcher.gate.clear()
    scene.demand.began()
    await trio.testing.wait_all_tasks_blocked(0.05)
    under_way = len(scene.fetcher.requests)
    assert under_way < len(scene.made)
    scene.fetcher.gate.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(scene.fetcher.requests) == under_way  # the objects under way came, and no other was begun
    scene.demand.ended()
    while not job.over:
        await trio.sleep(0.001)
    assert job.state == "done"


async def test_a_job_that_is_stopped_goes_on_in_the_next(tmp_path: Path, nursery: trio.Nursery) -> None:
    scene = Scene(tmp_path)
    job = scene.job()
    nursery.start_soon(job.run)
    await scene.fetcher.asked()
    job.stop()
    while not job.over:
        await trio.sleep(0.001)
    assert job.progress().state == "stopped"
    scene.fetcher.gate.set()
    again = scene.job()
    await again.run()
    assert again.progress().state == "done"


async def test_what_came_before_a_stop_is_not_fetched_again(tmp_path: Path) -> None:
    """The job has one object under way at most, and is stopped in a pause: no thread is left with an object
    that was given up, which it might still request while the next job runs."""
    scene = Scene(tmp_path)
    scene.fetcher.gate.set()
    job = scene.job(rate=10_000, at_once=1)
    pause = job._pause

    async def stopping(seconds: float) -> None:
        if len(scene.cache.proven) > 8:
            job.stop()
        await pause(seconds)

    job._pause = stopping
    await job.run()
    assert job.progress().state == "stopped"
    came = set(map(object_path, scene.cache.proven))
    assert 8 < len(came) < len(scene.made)
    scene.fetcher.requests.clear()
    again = scene.job()
    await again.run()
    assert again.progress().state == "done"
    assert came.isdisjoint(scene.fetcher.requests)
    assert len(scene.fetcher.requests) == len(scene.made) - len(came)


async def test_a_job_that_nobody_asks_about_ends(tmp_path: Path, nursery: trio.Nursery) -> None:
    scene = Scene(tmp_path)
    job = scene.job()
    nursery.start_soon(job.run)
    await scene.fetcher.asked()
    scene.now = LEASE + 1
    scene.fetcher.gate.set()
    while not job.over:
        await trio.sleep(0.001)
    assert job.state == "stopped"
    assert len(scene.fetcher.requests) <= 2 * AT_ONCE


@pytest.mark.parametrize("what", ["large", "outage", "bug", "no cache"])
async def test_a_failure_has_a_reason(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(tmp_path)
    scene.fetcher.gate.set()
    if what == "large":
        scene.limit = 1000
    elif what == "outage":
        scene.fetcher.failure = TransportError("no path")
    elif what == "bug":
        scene.demand.idle = None  # type: ignore[method-assign, assignment]
    else:
        scene.cache.put = lambda *_: False  # type: ignore[method-assign]
    job = scene.job()
    await job.run()
    said = {
        "large": "--cache-limit", "outage": "no path", "bug": "TypeError", "no cache": "does not keep",
    }  # fmt: skip
    assert job.progress().state == "failed"
    assert said[what] in job.progress().problem
    assert bool(caplog.records) == (what == "bug")


async def test_a_rate_is_kept(tmp_path: Path) -> None:
    """On the job's clock, a fetch begins no earlier than the total size of all earlier fetches divided by the
    rate."""
    scene = Scene(tmp_path)
    scene.fetcher.gate.set()
    job = scene.job(rate=10_000)
    begun: list[tuple[float, int]] = []
    fetch = scene.objects.fetch

    async def timed(ref: ObjectRef, **options: bool) -> bytes:
        begun.append((scene.now, ref.size))
        return await fetch(ref, **options)

    reserved: list[int] = []
    assert job._pace is not None
    reserve = job._pace.wait

    def noted(size: int, now: float) -> float:
        reserved.append(size)
        return reserve(size, now)

    scene.objects.fetch = timed  # type: ignore[method-assign,assignment]
    job._pace.wait = noted  # type: ignore[method-assign]
    await job.run()
    assert job.progress().state == "done"
    begun.sort()
    before = 0
    for moment, size in begun:
        assert moment >= before / 10_000 - 1e-6
        before += size
    assert before == sum(reserved) == sum(map(len, scene.made.values()))
    # The last one that is reserved begins last, perhaps at the same moment as an earlier one that came late.
    assert scene.now == pytest.approx((before - reserved[-1]) / 10_000)


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 10)), max_size=40), st.integers(1, 500))
def test_no_second_has_more_bytes_than_the_rate(fetches: list[tuple[int, float]], rate: int) -> None:
    """Between the beginnings of any two fetches, the bytes begun are at most the rate times the time between
    them."""
    pace, now = Pace(rate), 0.0
    begun: list[tuple[float, int]] = []
    for size, later in fetches:
        now += later
        waited = pace.wait(size, now)
        assert waited >= 0
        begun.append((now + waited, size))
    for first, (start, _) in enumerate(begun):
        for last in range(first + 1, len(begun)):
            between = sum(size for _, size in begun[first:last])
            assert between <= (begun[last][0] - start) * rate + 1e-3
