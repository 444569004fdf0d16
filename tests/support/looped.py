"""Adapters that drive the transport's event loops behind its blocking interfaces, so that the same tests
cover both."""

import threading
from collections.abc import Callable

from lazyfs.core.chain.report import ChainReport
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.curl_client import CurlClient
from lazyfs.transport.fetcher import Request, Rest, never_cancelled
from lazyfs.transport.guard import Limits
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.tls import Tls


class LoopedClient(CurlClient):
    """Makes each attempt in a CurlLoop, which it drives until the attempt has ended."""

    def __init__(self, limits: Limits, *, connections: int = 32, tls: Tls | None = None) -> None:
        super().__init__(limits, connections=connections, tls=tls)
        self._attempts = self.loop()
        self._turn = threading.Lock()

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        with self._turn:
            under_way = self._attempts.begin(attempt, check_cancelled)
            if under_way is None:  # the name service has to be waited for
                return super().get(attempt, check_cancelled)
            outcomes: dict[object, Answer | BaseException] = {}
            while under_way not in outcomes:
                outcomes |= dict(self._attempts.advance(1.0))
            outcome = outcomes[under_way]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        self._attempts.close()
        super().close()


class LoopedFetcher:
    """Makes each fetch in an HttpLoop. Work that the loop would leave to another thread (a Rest) is done in
    the caller's thread."""

    def __init__(self, fetcher: HttpFetcher) -> None:
        self._fetcher = fetcher
        loop = fetcher.loop()
        assert loop is not None
        self._loop = loop

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        key = object()
        self._loop.begin(key, request, check_cancelled)
        found: list[bytes | BaseException | Rest] = []
        while not found:
            found += [result for ended, result in self._loop.advance(1.0) if ended is key]
        result = found[0]
        if isinstance(result, Rest):
            return result.run()
        if isinstance(result, BaseException):
            raise result
        return result

    def report(self) -> ChainReport:
        return self._fetcher.report()

    def close(self) -> None:
        self._loop.close()
        self._fetcher.close()
