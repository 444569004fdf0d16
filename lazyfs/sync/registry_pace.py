"""The pace at which the images of a run, taken together, send requests to one registry.

At most `parallel` requests at a time wait for the head of an answer. After a server has answered with 429,
all requests to this server wait until the time in its Retry-After is over. Two things end the requests for
the rest of the run: FAILURES failed requests to a server in a row, without an answered one between them; and
the end of the registry's time in the run. Images of that registry then fail at once and keep their last
version, also those that wait for an answer just then.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lazyfs.core.registry.access import MAX_PAUSE
from lazyfs.images.registry.addresses import Origin
from lazyfs.images.registry.problems import Failed, Problem
from lazyfs.images.registry.replies import retry_after

FAILURES = 12
"""The number of failed requests in a row (without an answer, or answered with 429 or 5xx) after which a
server counts as down: as many as two images make with all their retries. Requests that were answered with 429
at the same time count as one."""


@dataclass
class _Server:
    open_at: float = 0.0
    """Time (monotonic seconds) before which the server is not asked."""
    refusals: int = 0
    """Number of 429 answers in a row."""
    failures: int = 0
    down: str = ""


class RegistryPace:
    """The pace for one registry and the servers that it redirects to. Safe to use from several threads."""

    def __init__(
        self,
        parallel: int,
        *,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        longest: float = math.inf,
        going_on: Callable[[], None] = lambda: None,
    ) -> None:
        """`parallel`: the largest number of requests that wait for an answer at a time. `longest`: the
        registry's time in the run, in seconds from the first request; after it, no request is sent and no
        answer read on. `going_on`: raises TransportError once the run has been stopped."""
        self._slots = threading.BoundedSemaphore(parallel)
        self._pause = pause
        self._now = now
        self._wall = wall
        self._longest = longest
        self._going_on = going_on
        self._end = math.inf
        self._servers: dict[Origin, _Server] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, origin: Origin) -> Iterator[None]:
        """Waits until a request may be sent to the server `origin` (scheme, host and port), and counts it as
        one of the `parallel` requests until the block ends. Raises Failed if the server is down or asks for
        too long a pause, or if the registry's time in the run is over."""
        with self._slots:
            while True:
                self.check(origin)
                with self._lock:
                    server = self._servers.setdefault(origin, _Server())
                    down, wait = server.down, server.open_at - self._now()
                if down:
                    raise Failed(Problem(f"{down} (not asked again in this run)", hopeless=True))
                if wait <= 0:
                    break
                if wait > MAX_PAUSE:
                    text = (
                        f"{origin}: it limits the rate of requests for another {wait:.0f} s: try again later"
                    )
                    raise Failed(Problem(text, hopeless=True))
                self._pause(wait)
            yield

    def answered(self, origin: Origin, status: int, headers: Mapping[str, str]) -> None:
        with self._lock:
            server = self._servers.setdefault(origin, _Server())
            if status != 429:
                server.refusals = 0
            if status == 429:
                if server.open_at <= self._now():
                    server.refusals += 1
                    self._fails(server, f"{origin} answers 429, {FAILURES} times in a row")
                wait = retry_after(headers, self._wall()) or min(2.0 ** (server.refusals - 1), MAX_PAUSE)
                server.open_at = max(server.open_at, self._now() + wait)
            elif status >= 500:
                self._fails(server, f"{origin} answers {status}, {FAILURES} times in a row")
            else:
                server.failures = 0

    def broke(self, origin: Origin, problem: Problem) -> None:
        with self._lock:
            server = self._servers.setdefault(origin, _Server())
            self._fails(server, problem.text)

    def check(self, origin: Origin) -> None:
        """Raises Failed if the registry's time in the run is over, TransportError if the run has been
        stopped. The first call starts the registry's time."""
        self._going_on()
        with self._lock:
            now = self._now()
            self._end = min(self._end, now + self._longest)
            if now > self._end:
                text = f"{origin}: the registry's time in this run, {self._longest / 60:.0f} minutes, is over"
                raise Failed(Problem(f"{text}: the next run goes on", hopeless=True))

    def _fails(self, server: _Server, reason: str) -> None:
        server.failures += 1
        if server.failures >= FAILURES:
            server.down = reason
