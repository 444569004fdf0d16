"""A simulated site: paths that work or fail over simulated time, and requests that run on the real chain."""

import heapq
import itertools
from collections.abc import Callable, Generator
from typing import NamedTuple

from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.plan import GiveUp, Pause, Plan

Behaviour = Callable[[float, Route], Fault | None]
"""(time at which an attempt begins, path) -> the attempt's fault, or None if it delivers the right bytes."""

COST = {None: 0.05, Fault.REFUSED: 0.001, Fault.DNS: 0.2, Fault.CONNECT: 3.0, Fault.UNREACHABLE: 0.001}
"""Fault -> seconds that an attempt takes. Silence and slowness take the whole timeout of the path; a fault
that is missing here takes 0.02."""


class Result(NamedTuple):
    """The start, end, error and attempts of one request."""

    began: float
    ended: float
    error: Exception | None
    routes: tuple[tuple[str, str, bool], ...]
    """Proxy, origin, no_cache of each attempt."""


class World:
    """Runs requests in simulated time. Requests overlap as the durations of their attempts say."""

    def __init__(self, chain: Chain, behaviour: Behaviour) -> None:
        self.chain = chain
        self.behaviour = behaviour
        self.results: list[Result] = []
        self._queue: list[tuple[float, int, Generator[float, float, None]]] = []
        self._order = itertools.count()

    def request(
        self, at: float, path: str = "data/aa/bb", patience: float = 30.0, *, may_be_missing: bool = False
    ) -> None:
        """Schedules one request for the time `at`."""
        task = self._request(path, patience, may_be_missing)
        next(task)
        heapq.heappush(self._queue, (at, next(self._order), task))

    def run(self) -> list[Result]:
        """Runs all scheduled requests to their ends; returns the results."""
        for _ in range(200_000):
            if not self._queue:
                return self.results
            now, _, task = heapq.heappop(self._queue)
            try:
                heapq.heappush(self._queue, (task.send(now), next(self._order), task))
            except StopIteration:
                pass
        raise AssertionError("requests that do not end")

    def _request(self, path: str, patience: float, may_be_missing: bool) -> Generator[float, float, None]:
        began = now = yield 0.0
        deadline = now + patience
        plan = Plan(self.chain, path, now, deadline, no_cache=False, may_be_missing=may_be_missing)
        routes: list[tuple[str, str, bool]] = []
        while True:
            step = plan.next(now)
            if isinstance(step, GiveUp):
                self.results.append(Result(began, now, step.error, tuple(routes)))
                return
            if isinstance(step, Pause):
                assert step.until > now
                now = yield step.until
                continue
            routes.append((step.proxy.name, step.origin.name, step.no_cache))
            started = now
            fault = self.behaviour(now, step)
            waiting = fault in (Fault.SILENT, Fault.SLOW)
            cost = step.silence if waiting else COST.get(fault, 0.02)
            now = yield min(now + cost, max(deadline, now + 0.001))
            if fault is None:
                plan.succeeded(step, now, size=1, first_byte=0.01, elapsed=now - started, from_cache=False)
                self.results.append(Result(began, now, None, tuple(routes)))
                return
            plan.failed(step, AttemptFailed(fault, ""), started, now)
