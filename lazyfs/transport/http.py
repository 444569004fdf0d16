"""A store behind web servers and proxies."""

import time
from collections.abc import Callable

from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.errors import DeadlineExceeded, NotFound
from lazyfs.transport.answer import Attempt, Client
from lazyfs.transport.fetcher import Request, never_cancelled


class HttpFetcher:
    """A Fetcher over one origin and at most one proxy."""

    def __init__(self, origin: str, client: Client, proxy: str | None = None) -> None:
        self._origin = origin.rstrip("/")
        self._client = client
        self._proxy = proxy

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """See Fetcher."""
        url = f"{self._origin}/{request.path}"
        attempt = Attempt(url, self._proxy, request.max_bytes, request.deadline, request.no_cache)
        try:
            answer = self._client.get(attempt, check_cancelled)
        except AttemptFailed as error:
            if error.fault == Fault.MISSING:
                raise NotFound(f"{url}: 404") from error
            if time.monotonic() >= request.deadline:
                raise DeadlineExceeded(f"{url}: {error}") from error
            raise
        return request.accept(answer.body)

    def close(self) -> None:
        """See Fetcher."""
        self._client.close()
