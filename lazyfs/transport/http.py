"""A Fetcher for web servers and proxies: carries out the chain's decisions."""

import logging
import threading
import time
from collections.abc import Callable

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.plan import GiveUp, Pause, Plan
from lazyfs.core.chain.report import ChainReport
from lazyfs.core.errors import BadData, LazyfsError, TransportError
from lazyfs.transport.attempt import Answer, Attempt, Client
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.race import Overtaken, Race

log = logging.getLogger("lazyfs.chain")

_SLICE = 0.1
"""Seconds between looks at the check while pausing."""


class HttpFetcher:
    """A Fetcher over a chain of proxies and origins."""

    def __init__(self, chain: Chain, client: Client) -> None:
        self._chain = chain
        self._client = client
        self._lock = threading.Lock()
        """Guards the chain and every plan; never held while waiting."""

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """As Fetcher.fetch. Raises Outage at once while every path is known dead."""
        with self._lock:
            plan = Plan(
                self._chain,
                request.path,
                time.monotonic(),
                request.deadline,
                no_cache=request.no_cache,
                may_be_missing=request.may_be_missing,
            )
        try:
            return self._carry_out(plan, request, check_cancelled)
        except BaseException:
            with self._lock:
                plan.left(time.monotonic())
            raise

    def _carry_out(self, plan: Plan, request: Request, check_cancelled: Callable[[], None]) -> bytes:
        while True:
            check_cancelled()
            with self._lock:
                step = plan.next(time.monotonic())
            self._tell()
            if isinstance(step, GiveUp):
                raise step.error
            if isinstance(step, Pause):
                _pause(step.until, check_cancelled)
                continue
            accepted = self._race(plan, step, request, check_cancelled)
            self._tell()
            if accepted is not None:
                return accepted

    def report(self) -> ChainReport:
        """The state of every proxy and origin, and their counts since the start."""
        with self._lock:
            return self._chain.report(time.monotonic())

    def close(self) -> None:
        """As Fetcher.close."""
        self._client.close()

    def _race(
        self, plan: Plan, route: Route, request: Request, check_cancelled: Callable[[], None]
    ) -> bytes | None:
        """One attempt, and a rival if it is slow; None if both fail."""

        def enter() -> Callable[[Callable[[], None]], bytes | None] | None:
            with self._lock:
                other = plan.hedge(time.monotonic(), route)
            if other is None:
                return None
            return lambda check: self._attempt(plan, other, request, check)

        race = Race(self._chain.hedges.after, enter)

        def check() -> None:
            check_cancelled()
            race.poll()

        try:
            accepted = self._attempt(plan, route, request, check)
            if accepted is None:
                accepted = race.wait(check_cancelled)
        except Overtaken:
            accepted = race.wait(check_cancelled)
            with self._lock:
                self._chain.hedges.won += 1
        finally:
            race.finish()
        return accepted

    def _attempt(self, plan: Plan, route: Route, request: Request, check: Callable[[], None]) -> bytes | None:
        """The accepted bytes; None if the attempt failed. Tells the plan either way."""
        attempt = Attempt(
            f"{route.origin.url}/{request.path}",
            None if route.proxy.direct else route.proxy.url,
            request.max_bytes,
            request.deadline,
            route.no_cache,
            route.silence,
        )
        started = time.monotonic()
        outcome: Answer | AttemptFailed | Overtaken | None = None
        accepted = b""
        html = False
        try:
            answer = self._client.get(attempt, check)
            html = answer.html
            accepted = request.accept(answer.body)
            outcome = answer
        except AttemptFailed as failure:
            outcome = failure
        except Overtaken as rival:
            outcome = rival
            raise
        except BadData as error:
            outcome = AttemptFailed(Fault.PORTAL if html else Fault.BAD_CONTENT, str(error))
            log.warning("%s from %s over %s: %s", request.path, route.origin.name, route.proxy.name, outcome)
        except LazyfsError:
            raise  # raised by the caller's check: no reader waits any more
        except MemoryError:  # the node's memory, so no other path can help
            raise TransportError(f"{request.path}: not enough memory for {request.max_bytes} bytes") from None
        except Exception as bug:  # a bug that an answer met: ask the next path
            outcome = AttemptFailed(Fault.GARBLED, f"{type(bug).__name__}: {bug}"[:200])
            log.exception("%s from %s over %s", request.path, route.origin.name, route.proxy.name)
        finally:
            self._settle(plan, route, outcome, started)
        return accepted if isinstance(outcome, Answer) else None

    def _settle(
        self, plan: Plan, route: Route, outcome: Answer | AttemptFailed | Overtaken | None, started: float
    ) -> None:
        now = time.monotonic()
        with self._lock:
            match outcome:
                case Answer():
                    plan.succeeded(
                        route,
                        now,
                        size=len(outcome.body),
                        first_byte=outcome.first_byte,
                        elapsed=outcome.elapsed,
                        from_cache=outcome.from_cache,
                    )
                case AttemptFailed():
                    plan.failed(route, outcome, started, now)
                case _:
                    plan.abandoned(route, overtaken=outcome is not None)

    def _tell(self) -> None:
        if self._chain.news:
            with self._lock:
                news, self._chain.news = self._chain.news, []
            for item in news:
                log.warning("%s %s: %s%s", item.kind, item.member, item.state, item.why and f": {item.why}")


def _pause(until: float, check_cancelled: Callable[[], None]) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE))
        check_cancelled()
