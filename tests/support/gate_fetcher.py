"""A Fetcher that answers only when the test allows it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import trio

from lazyfs.core.errors import DeadlineExceeded
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher


class GateFetcher:
    """A Fetcher whose answers wait until the test opens the gate, except those for the paths in `free`.
    Counts requests and cancellations."""

    def __init__(self, directory: Path) -> None:
        self._store = LocalFetcher(str(directory))
        self.gate = threading.Event()
        self.free: set[str] = set()
        self.requests: list[str] = []
        self.cancelled = 0
        self.failure: Exception | None = None

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        self.requests.append(request.path)
        if request.path in self.free:
            return self._store.fetch(request, check_cancelled)
        while not self.gate.wait(0.01):
            try:
                check_cancelled()
            except BaseException:
                self.cancelled += 1
                raise
            if time.monotonic() >= request.deadline:
                raise DeadlineExceeded("late")
        if self.failure is not None:
            raise self.failure
        return self._store.fetch(request, check_cancelled)

    def close(self) -> None:
        pass

    async def asked(self, count: int = 1) -> None:
        """Returns once the fetcher has received `count` requests in all."""
        while len(self.requests) < count:
            await trio.sleep(0.001)
