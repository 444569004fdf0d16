"""The times of refreshes: at an interval that differs from worker to worker, and on demand."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import LazyfsError
from lazyfs.core.params import Revision

if TYPE_CHECKING:
    from lazyfs.client.trust.chosen_revision import ChosenRevision

log = logging.getLogger(__name__)

RETRY = 15.0
"""Seconds before the retry of a failed refresh. The time doubles with each further failure, up to the
interval."""

JITTER = 0.2
"""Share of the interval by which a refresh comes sooner or later at random, so that the workers of a site do
not refresh at the same moment. At 240 s, a thousand workers make four small requests a second, which the
site's proxy answers."""


class Refresher:
    """Keeps one mount's revision fresh. Belongs to one trio run."""

    def __init__(
        self,
        revisions: "Revisions | ChosenRevision",
        shown: Revision,
        on_advance: Callable[[Revision], Awaitable[None]],
        *,
        interval: float,
        patience: float,
        error: str = "",
        is_newest: bool = True,
        uniform: Callable[[float, float], float] = random.uniform,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`shown`: the revision that the mount shows. `interval`: seconds between refreshes, give or take
        JITTER. `patience`: seconds that a refresh may take. `on_advance` is awaited with each revision that
        differs from `shown`; if it raises LazyfsError or OSError, it is called again at the next refresh.
        `error`: the reason why the caller's own refresh failed; empty if it succeeded or was not made.
        `is_newest`: False if the caller made no refresh: `run` then begins with one."""
        self._revisions = revisions
        self.shown = shown
        """The revision that the mount shows: the last one that `on_advance` has taken."""
        self.looked = wall_clock()
        """The time at which the last refresh ended."""
        self.error = error
        """The reason why the last refresh could not get or show the newest revision; empty if it could."""
        self._on_advance = on_advance
        self._interval = interval
        self._patience = patience
        self._uniform = uniform
        self._wall_clock = wall_clock
        self._asked = trio.Event()
        self.first_look = trio.Event()
        """Set once a newer revision has been looked for. Calls wait for this event. `on_advance` sets it as
        soon as they are answered from a newer revision, if it then waits for these calls."""
        (self.first_look if is_newest else self._asked).set()
        self._waiting: list[_Answer] = []
        self.refreshing = False
        """True while a refresh, or its `on_advance`, is under way."""

    async def now(self) -> Revision:
        """Asks for a refresh that starts after this call, waits for it and its `on_advance`, and returns the
        revision. Raises the errors of both."""
        answer = _Answer()
        self._waiting.append(answer)
        self._asked.set()
        await answer.ended.wait()
        if isinstance(answer.result, Revision):
            return answer.result
        assert answer.result is not None
        raise answer.result

    async def run(self) -> None:
        """Refreshes for ever. The failure of a refresh is in `error`; raises Expired once `max_stale` has
        passed."""
        failures = 1 if self.error else 0
        waiting: list[_Answer] = []
        try:
            while True:
                self.refreshing = False
                with trio.move_on_after(self._pause(failures)):
                    await self._asked.wait()
                self.refreshing = True
                self._asked = trio.Event()
                waiting, self._waiting = self._waiting, []
                try:
                    result: Revision | Exception = await self._look()
                except (LazyfsError, OSError) as error:
                    result = error
                except Exception as bug:  # an error of any cause ends this refresh and not the mount
                    log.exception("a look for a new revision")
                    result = LazyfsError(f"{type(bug).__name__}: {bug}")
                failed = isinstance(result, Exception)
                self.error = str(result) if failed else ""
                self.looked = self._wall_clock()
                failures = failures + 1 if failed else 0
                self.first_look.set()
                _end(waiting, result)
                self._revisions.serving(self.looked)
        finally:
            _end(waiting + self._waiting, LazyfsError("the mount ended before the refresh did"))

    async def _look(self) -> Revision:
        revision = await trio.to_thread.run_sync(self._refresh)
        advances = revision.number != self.shown.number or revision.root != self.shown.root
        if advances:
            try:
                await self._on_advance(revision)
            except (LazyfsError, OSError) as error:
                reason = error.__cause__ or error  # a filesystem's EIO has its reason there
                raise LazyfsError(f"revision {revision.number} cannot be shown: {reason}") from error
        self.shown = revision
        if advances:
            await trio.to_thread.run_sync(self._revisions.note_shown, revision)
        return revision

    def _refresh(self) -> Revision:
        deadline = time.monotonic() + self._patience
        return self._revisions.refresh(self._wall_clock(), deadline, trio.from_thread.check_cancelled)

    def _pause(self, failures: int) -> float:
        pause = min(RETRY * 2.0 ** (failures - 1), self._interval) if failures else self._interval
        return pause * self._uniform(1 - JITTER, 1 + JITTER)


class _Answer:
    def __init__(self) -> None:
        self.ended = trio.Event()
        self.result: Revision | Exception | None = None


def _end(waiting: list[_Answer], result: Revision | Exception) -> None:
    for answer in waiting:
        if not answer.ended.is_set():
            answer.result = result
            answer.ended.set()
