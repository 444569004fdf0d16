"""The schedule of refreshes: with jitter, on demand, and with pauses after failures. The tests use trio's
mock clock and do not wait."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.client.trust.refresher import JITTER, RETRY, Refresher
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import LazyfsError, TransportError
from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Expired
from lazyfs.transport.fetcher import Request
from tests.support.simulated_repository import SimulatedRepository

INTERVAL = 300.0


class Mount:
    """A running refresher, the times of its requests, and the revisions that it has passed to the mount."""

    def __init__(self, repository: SimulatedRepository, client: Revisions) -> None:
        self.asked: list[float] = []
        self.seen: list[Revision] = []
        self.stretch = 1.0
        self.failing = False
        self.obstacle: Exception | None = None
        self._token = trio.lowlevel.current_trio_token()
        repository.tamper = self._tamper
        self.refresher = Refresher(
            client,
            repository.revision,
            self._advanced,
            interval=INTERVAL,
            patience=30,
            uniform=self._uniform,
            wall_clock=lambda: self._now(repository),
        )

    def _now(self, repository: SimulatedRepository) -> datetime:
        return repository.now

    def _uniform(self, low: float, high: float) -> float:
        assert (low, high) == (1 - JITTER, 1 + JITTER)
        return self.stretch

    def _tamper(self, request: Request, body: bytes | None) -> bytes | None:
        if request.path.endswith("timestamp.json"):
            self.asked.append(trio.from_thread.run_sync(trio.current_time, trio_token=self._token))
            if self.failing:
                raise TransportError("no server")
        return body

    async def _advanced(self, revision: Revision) -> None:
        if self.obstacle:
            raise self.obstacle
        self.seen.append(revision)


@asynccontextmanager
async def running(repository: SimulatedRepository, client: Revisions) -> AsyncIterator[Mount]:
    mount = Mount(repository, client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mount.refresher.run)
        await trio.testing.wait_all_tasks_blocked()
        yield mount
        nursery.cancel_scope.cancel()


async def pass_time(clock: trio.testing.MockClock, seconds: float, mount: Mount, asked: int) -> None:
    """Lets time pass, and waits for the end of the refreshes that are due by then."""
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()
    # a deadline by the real clock: a thread is at work, and trio's clock stands still
    end = time.monotonic() + 20
    while (len(mount.asked) < asked or mount.refresher.refreshing) and time.monotonic() < end:
        await trio.lowlevel.checkpoint()
    assert len(mount.asked) == asked


async def test_a_new_revision_is_noticed_within_the_interval(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    async with running(repository, client) as mount:
        await pass_time(mock_clock, INTERVAL - 1, mount, 0)
        await pass_time(mock_clock, 2, mount, 1)
        assert mount.seen == []  # the mount has this revision already
        published = repository.publish()
        await pass_time(mock_clock, INTERVAL + 1, mount, 2)
        assert mount.seen == [published]
        await pass_time(mock_clock, INTERVAL + 1, mount, 3)
        assert mount.seen == [published]


async def test_workers_spread_over_the_interval(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    mount = Mount(repository, client)
    mount.stretch = 1 - JITTER
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mount.refresher.run)
        await trio.testing.wait_all_tasks_blocked()
        mount.stretch = 1 + JITTER
        await pass_time(mock_clock, INTERVAL * (1 - JITTER) + 1, mount, 1)
        await pass_time(mock_clock, INTERVAL * (1 + JITTER) - 1, mount, 1)
        await pass_time(mock_clock, 2, mount, 2)
        nursery.cancel_scope.cancel()


async def test_on_demand_it_looks_at_once_and_answers_when_the_mount_has_taken_it(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    async with running(repository, client) as mount:
        published = repository.publish()
        assert await mount.refresher.now() == published
        assert mount.seen == [published]
        assert mount.asked == [trio.current_time()]
        await pass_time(mock_clock, INTERVAL - 1, mount, 1)
        await pass_time(mock_clock, 2, mount, 2)


async def test_many_demands_at_once_are_one_refresh(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    async with running(repository, client) as mount:
        published = repository.publish()
        answers = []

        async def demand() -> None:
            answers.append(await mount.refresher.now())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(demand)
        assert answers == [published] * 20
        assert len(mount.asked) == 1


async def test_failures_are_told_to_who_asked_and_tried_again_soon(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    async with running(repository, client) as mount:
        mount.failing = True
        with pytest.raises(TransportError, match="no server"):
            await mount.refresher.now()
        published = repository.publish()
        await pass_time(mock_clock, RETRY - 1, mount, 1)
        await pass_time(mock_clock, 2, mount, 2)
        await pass_time(mock_clock, 2 * RETRY - 2, mount, 2)
        await pass_time(mock_clock, 2, mount, 3)
        for number in range(4, 10):  # the pause is doubled up to the interval only
            await pass_time(mock_clock, INTERVAL + 1, mount, number)
        mount.failing = False
        await pass_time(mock_clock, INTERVAL + 1, mount, 10)
        assert mount.seen == [published]
        await pass_time(mock_clock, RETRY + 1, mount, 10)


@pytest.mark.parametrize("obstacle", [TransportError("no catalog"), OSError(5, "no catalog")])
async def test_a_revision_that_cannot_be_shown_is_shown_later(
    repository: SimulatedRepository,
    client: Revisions,
    mock_clock: trio.testing.MockClock,
    obstacle: Exception,
) -> None:
    async with running(repository, client) as mount:
        before = mount.refresher.shown
        published = repository.publish()
        mount.obstacle = obstacle
        with pytest.raises(LazyfsError, match=r"revision 2 cannot be shown: .*no catalog"):
            await mount.refresher.now()
        assert "no catalog" in mount.refresher.error
        assert mount.refresher.shown == client.earlier() == before
        mount.obstacle = None
        await pass_time(mock_clock, RETRY + 1, mount, 2)
        assert (mount.seen, mount.refresher.shown, mount.refresher.error) == ([published], published, "")
        assert client.earlier() is None


async def test_a_mount_that_started_without_a_server_looks_again_soon(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    mount = Mount(repository, client)
    mount.refresher.error = "no server"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mount.refresher.run)
        await trio.testing.wait_all_tasks_blocked()
        await pass_time(mock_clock, RETRY + 1, mount, 1)
        assert mount.refresher.error == ""
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("bug", [ValueError("4300 digits"), OverflowError(), RecursionError(), MemoryError()])
async def test_what_nobody_foresaw_ends_the_look_and_not_the_mount(
    repository: SimulatedRepository,
    client: Revisions,
    mock_clock: trio.testing.MockClock,
    bug: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(repository, client) as mount:
        repository.publish()
        mount.obstacle = bug
        await pass_time(mock_clock, INTERVAL + 1, mount, 1)
        assert type(bug).__name__ in mount.refresher.error
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [type(bug)]
        mount.obstacle = None
        await pass_time(mock_clock, RETRY + 1, mount, 2)
        assert mount.refresher.error == ""
        assert mount.seen == [repository.revision]


async def test_a_mount_that_may_not_serve_any_longer_ends(
    repository: SimulatedRepository, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    client = repository.client(tmp_path, max_stale=3600)
    repository.refresh(client)
    with pytest.RaisesGroup(pytest.RaisesExc(Expired, match="--max-stale 3600 s")):
        async with running(repository, client) as mount:
            repository.now += timedelta(days=7, minutes=30)
            await pass_time(mock_clock, INTERVAL + 1, mount, 2)  # one refresh makes two requests
            assert "expired" in mount.refresher.error
            repository.now += timedelta(hours=1)
            mock_clock.jump(INTERVAL)
            await trio.sleep_forever()


async def test_who_waits_when_the_mount_ends_is_told_so(
    repository: SimulatedRepository, client: Revisions, mock_clock: trio.testing.MockClock
) -> None:
    outcome: list[str] = []
    async with trio.open_nursery() as outer, running(repository, client) as mount:

        async def never(_revision: Revision) -> None:
            await trio.sleep_forever()

        mount.refresher._on_advance = never
        repository.publish()

        async def demand() -> None:
            with pytest.raises(LazyfsError, match="the mount ended") as error:
                await mount.refresher.now()
            outcome.append(str(error.value))

        outer.start_soon(demand)
        while not mount.asked:
            await trio.lowlevel.checkpoint()
    assert outcome == ["the mount ended before the refresh did"]
