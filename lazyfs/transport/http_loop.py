"""Fetches over the chain that one thread makes side by side.

The loop makes the first attempt of each request, and nearly all requests end with it. A request that has to
wait for something else (another path, a pause, the name service, or a rival, which is a second attempt beside
a slow one) goes on, with its plan, in a thread that may wait. A large answer is verified in such a thread
too, if other answers are still to come and the machine has a processor to spare.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.plan import GiveUp
from lazyfs.transport.attempt import Answer, AttemptLoop
from lazyfs.transport.fetcher import Request, Rest
from lazyfs.transport.passage import Passage, SharedChain, Step
from lazyfs.transport.race import Overtaken, Race

LARGE: Final = 128 << 10
"""The smallest size of an answer, in bytes, that is verified in another thread: verification then takes 1 ms
or more, and the use of a thread 100 us."""

_Ended = tuple[object, bytes | BaseException | Rest]


class _Running(NamedTuple):
    """A first attempt under way."""

    key: object
    passage: Passage
    route: Route
    race: Race[bytes]
    started: float


class HttpLoop:
    """A FetchLoop of an HttpFetcher."""

    def __init__(self, shared: SharedChain, attempts: AttemptLoop, *, processors: int) -> None:
        """`processors`: the number of the machine's processors that may be used, the loop's own included."""
        self._shared = shared
        self._spare = threading.Semaphore(processors - 1)
        """Counts the processors on which no thread verifies."""
        self._attempts = attempts
        self._running: dict[object, _Running] = {}
        self._ended: list[_Ended] = []

    def begin(self, key: object, request: Request, check_cancelled: Callable[[], None]) -> None:
        """Begins a fetch, whose end `advance` will report under this key. `check_cancelled` is called in any
        thread."""
        passage = Passage(self._shared, request, check_cancelled)
        try:
            step = passage.next()
        except BaseException as error:  # noqa: BLE001 (told to the caller)
            self._give_up(key, passage, error)
            return
        if isinstance(step, GiveUp):
            self._give_up(key, passage, step.error)
        elif not isinstance(step, Route) or not self._attempt(key, passage, step):
            self._ended.append((key, _rest_from(passage, step)))

    def _attempt(self, key: object, passage: Passage, route: Route) -> bool:
        """Begins the first attempt of a request, over `route`. Returns False if it cannot be made in this
        thread."""
        race = passage.race(route)
        check_cancelled = passage.check_cancelled

        def check() -> None:
            check_cancelled()
            race.poll()

        started = time.monotonic()
        try:
            attempt = self._attempts.begin(passage.attempt_over(route), check)
        except Exception:  # noqa: BLE001 (made elsewhere, it fails there with its reason)
            return False
        if attempt is None:
            return False
        self._running[attempt] = _Running(key, passage, route, race, started)
        return True

    def advance(self, timeout: float) -> list[_Ended]:
        """Waits until a fetch has ended, the loop is woken, or `timeout` seconds are over. Returns the ended
        fetches by their keys, each with its result, its exception, or a Rest for another thread to run."""
        for attempt, outcome in self._attempts.advance(0 if self._ended else timeout):
            self._finish(self._running.pop(attempt), outcome)
        ended, self._ended = self._ended, []
        return ended

    def _finish(self, running: _Running, outcome: Answer | BaseException) -> None:
        key, passage, route, race, started = running
        if (
            isinstance(outcome, Answer)
            and len(outcome.body) >= LARGE
            and self._running
            and self._spare.acquire(blocking=False)
        ):
            self._ended.append((key, _verification(running, outcome, self._spare)))
            return

        def get() -> Answer:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        accepted: bytes | None
        try:
            if isinstance(outcome, Overtaken):
                accepted = passage.outcome(race, lambda: passage.judged(route, started, get))
            else:
                accepted = passage.judged(route, started, get)
        except BaseException as error:  # noqa: BLE001 (told to the caller)
            race.finish()
            self._give_up(key, passage, error)
            return
        self._shared.tell()
        if accepted is None:
            self._ended.append((key, _rest_after(passage, race)))
        else:
            race.finish()
            self._ended.append((key, accepted))

    def _give_up(self, key: object, passage: Passage, error: BaseException) -> None:
        passage.leave()
        self._ended.append((key, error))

    def wake(self) -> None:
        """Ends the present or the next wait of `advance`. Thread-safe."""
        self._attempts.wake()

    def close(self) -> None:
        """Gives up the fetches under way, and closes all connections."""
        for running in self._running.values():
            running.race.finish()
            running.passage.settle(running.route, None, running.started)
            running.passage.leave()
        self._running.clear()
        self._attempts.close()


def _none() -> None:
    """Returns None, the result of a first attempt that has failed."""


def _rest_from(passage: Passage, step: Step) -> Rest:
    def drop() -> None:
        if isinstance(step, Route):
            passage.settle(step, None, time.monotonic())
        passage.leave()

    return Rest(lambda: passage.finish(lambda: passage.take(step)), drop)


def _rest_after(passage: Passage, race: Race[bytes]) -> Rest:
    """Returns the rest of a request whose first attempt has failed; a rival of the attempt may still run."""

    def drop() -> None:
        race.finish()
        passage.leave()

    return Rest(lambda: passage.finish(lambda: passage.outcome(race, _none)), drop)


def _verification(running: _Running, answer: Answer, spare: threading.Semaphore) -> Rest:
    """Returns the rest of a request whose first attempt has an answer. The rest verifies the answer, and
    fetches the file again if the answer is bad."""
    _, passage, route, race, started = running

    def run() -> bytes:
        try:
            return passage.finish(
                lambda: passage.outcome(race, lambda: passage.judged(route, started, lambda: answer))
            )
        finally:
            spare.release()

    def drop() -> None:
        spare.release()
        race.finish()
        passage.settle(route, None, started)
        passage.leave()

    return Rest(run, drop)
