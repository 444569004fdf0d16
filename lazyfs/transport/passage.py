"""One request on its way along the chain: carries out the steps of its plan, one attempt after the other."""

import logging
import threading
import time
from collections.abc import Callable

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.plan import GiveUp, Pause, Plan
from lazyfs.core.errors import BadData, LazyfsError, TransportError
from lazyfs.transport.attempt import Answer, Attempt, Client
from lazyfs.transport.fetcher import Request
from lazyfs.transport.race import Overtaken, Race

log = logging.getLogger("lazyfs.chain")

_SLICE = 0.1
"""Seconds between two calls of the request's `check_cancelled` during a pause."""

Step = Route | Pause | GiveUp


class SharedChain:
    """A chain and the client that makes its attempts. One lock guards the chain and every plan; no thread
    waits while holding it."""

    def __init__(self, chain: Chain, client: Client) -> None:
        self.chain = chain
        self.client = client
        self.lock = threading.Lock()

    def tell(self) -> None:
        """Logs the members' changes of state."""
        if self.chain.news:
            with self.lock:
                news, self.chain.news = self.chain.news, []
            for item in news:
                log.warning("%s %s: %s%s", item.kind, item.member, item.state, item.why and f": {item.why}")


class Passage:
    """One request. Either `finish` (called in one thread) or `leave` ends it. A route is a path (a proxy or
    none, and an origin) that the plan has chosen for one attempt."""

    def __init__(self, shared: SharedChain, request: Request, check_cancelled: Callable[[], None]) -> None:
        self.request = request
        self.check_cancelled = check_cancelled
        self._shared = shared
        self._lock = shared.lock
        with self._lock:
            self._plan = Plan(
                shared.chain,
                request.path,
                time.monotonic(),
                request.deadline,
                no_cache=request.no_cache,
                may_be_missing=request.may_be_missing,
            )

    def next(self) -> Step:
        """Returns the plan's next step: an attempt over a route, a pause, or the end. Raises the exceptions
        of `check_cancelled`."""
        self.check_cancelled()
        with self._lock:
            step = self._plan.next(time.monotonic())
        self._shared.tell()
        return step

    def finish(self, under_way: Callable[[], bytes | None]) -> bytes:
        """Carries out the request until it has its bytes, and returns them. `under_way` ends the step that
        was begun already; it returns the step's bytes, or None if it brought none. Raises as
        Fetcher.fetch."""
        try:
            accepted = under_way()
            self._shared.tell()
            while accepted is None:
                accepted = self.take(self.next())
                self._shared.tell()
        except BaseException:
            self.leave()
            raise
        return accepted

    def leave(self) -> None:
        """Ends the request without bytes, before its plan has come to a result."""
        with self._lock:
            self._plan.left(time.monotonic())

    def take(self, step: Step) -> bytes | None:
        """Carries out a step. Returns the accepted bytes; None if the step brought none."""
        if isinstance(step, GiveUp):
            raise step.error
        if isinstance(step, Pause):
            _pause(step.until, self.check_cancelled)
            return None
        race = self.race(step)

        def check() -> None:
            self.check_cancelled()
            race.poll()

        return self.outcome(race, lambda: self._attempt(step, check))

    # attempts

    def race(self, route: Route) -> Race[bytes]:
        """Returns the race between an attempt over the route and its rival, a second attempt, which starts if
        the first one is slow."""

        def enter() -> Callable[[Callable[[], None]], bytes | None] | None:
            with self._lock:
                other = self._plan.hedge(time.monotonic(), route)
            if other is None:
                return None
            return lambda check: self._attempt(other, check)

        return Race(self._shared.chain.hedges.after, enter)

    def outcome(self, race: Race[bytes], first: Callable[[], bytes | None]) -> bytes | None:
        """Returns the bytes of the first attempt, or of its rival; None if both fail. Waits for the rival if
        need be."""
        try:
            accepted = first()
            if accepted is None:
                accepted = race.wait(self.check_cancelled)
        except Overtaken:
            accepted = race.wait(self.check_cancelled)
            with self._lock:
                self._shared.chain.hedges.won += 1
        finally:
            race.finish()
        return accepted

    def _attempt(self, route: Route, check: Callable[[], None]) -> bytes | None:
        attempt = self.attempt_over(route)
        return self.judged(route, time.monotonic(), lambda: self._shared.client.get(attempt, check))

    def attempt_over(self, route: Route) -> Attempt:
        """Returns the attempt to fetch the request's file over a route."""
        request = self.request
        return Attempt(
            f"{route.origin.url}/{request.path}",
            None if route.proxy.direct else route.proxy.url,
            request.max_bytes,
            request.deadline,
            route.no_cache,
            route.silence,
        )

    def judged(self, route: Route, started: float, get: Callable[[], Answer]) -> bytes | None:
        """Calls `get`, which ends the attempt that began at `started`, and reports the outcome to the plan.
        Returns the accepted bytes; None if the attempt failed."""
        path = self.request.path
        outcome: Answer | AttemptFailed | Overtaken | None = None
        accepted = b""
        html = False
        try:
            answer = get()
            html = answer.html
            accepted = self.request.accept(answer.body)
            outcome = answer
        except AttemptFailed as failure:
            outcome = failure
        except Overtaken as rival:
            outcome = rival
            raise
        except BadData as error:
            outcome = AttemptFailed(Fault.PORTAL if html else Fault.BAD_CONTENT, str(error))
            log.warning("%s from %s over %s: %s", path, route.origin.name, route.proxy.name, outcome)
        except LazyfsError:
            raise  # raised by the caller's check: no reader waits any more
        except MemoryError:  # the node's memory, so no other path can help
            raise TransportError(f"{path}: not enough memory for {self.request.max_bytes} bytes") from None
        except Exception as bug:  # a bug that an answer met: ask the next path
            outcome = AttemptFailed(Fault.GARBLED, f"{type(bug).__name__}: {bug}"[:200])
            log.exception("%s from %s over %s", path, route.origin.name, route.proxy.name)
        finally:
            self.settle(route, outcome, started)
        return accepted if isinstance(outcome, Answer) else None

    def settle(
        self, route: Route, outcome: Answer | AttemptFailed | Overtaken | None, started: float
    ) -> None:
        """Reports the outcome of an attempt to the plan. `outcome` is None if the attempt was given up."""
        now = time.monotonic()
        with self._lock:
            match outcome:
                case Answer():
                    self._plan.succeeded(
                        route,
                        now,
                        size=len(outcome.body),
                        first_byte=outcome.first_byte,
                        elapsed=outcome.elapsed,
                        from_cache=outcome.from_cache,
                    )
                case AttemptFailed():
                    self._plan.failed(route, outcome, started, now)
                case _:
                    self._plan.abandoned(route, overtaken=outcome is not None)


def _pause(until: float, check_cancelled: Callable[[], None]) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE))
        check_cancelled()
