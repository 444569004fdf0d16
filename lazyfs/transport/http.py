"""A Fetcher for web servers and proxies."""

import os
import time
from collections.abc import Callable

from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.report import ChainReport
from lazyfs.transport.attempt import Client
from lazyfs.transport.fetcher import FetchLoop, Request, never_cancelled
from lazyfs.transport.http_loop import HttpLoop
from lazyfs.transport.passage import Passage, SharedChain


class HttpFetcher:
    """A Fetcher over a chain of proxies and origins; SideBySide if its client has a loop."""

    def __init__(self, chain: Chain, client: Client) -> None:
        self._shared = SharedChain(chain, client)

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Returns the result of `request.accept` for the whole file. Raises as Fetcher.fetch, and Outage at
        once while every path is known to be dead."""
        return Passage(self._shared, request, check_cancelled).finish(lambda: None)

    def loop(self) -> FetchLoop | None:
        """Returns a loop that makes many fetches in one thread; None if the client has no loop."""
        attempts = self._shared.client.loop()
        return (
            None
            if attempts is None
            else HttpLoop(self._shared, attempts, processors=len(os.sched_getaffinity(0)))
        )

    def expect(self, count: int) -> None:
        """Makes ready for `count` fetches that will begin within some seconds: their connections are made
        meanwhile. Returns at once; thread-safe."""
        with self._shared.lock:
            machines = self._shared.chain.first_machines(count, time.monotonic())
        self._shared.client.expect(machines)

    def report(self) -> ChainReport:
        """Returns the state of every proxy and origin, and their counts since the start."""
        with self._shared.lock:
            return self._shared.chain.report(time.monotonic())

    def close(self) -> None:
        """Closes the connections; a later fetch is an error."""
        self._shared.client.close()
