"""Reads a store over the URL at which it is served, to answer questions about published images."""

import time
from collections.abc import Callable

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, object_path
from lazyfs.core.errors import NotFound
from lazyfs.core.trust.roles import MAX_ROOT
from lazyfs.transport.fetcher import Fetcher, Request

SECONDS = 60.0
"""Timeout in seconds for fetching one file."""
MOST = bounds.OBJECT + (1 << 16)
"""The largest size in bytes of an object as it is stored: zstd adds a few bytes to content that it cannot
compress."""


class FetchedStore:
    """A ReadableStore that fetches each file from a URL. It verifies nothing: that is left to its callers, as
    with any store."""

    def __init__(self, fetcher: Fetcher, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetcher = fetcher
        self._monotonic = monotonic

    def get(self, digest: Digest) -> bytes:
        return self._fetcher.fetch(Request(object_path(digest), MOST, self._monotonic() + SECONDS))

    def read_metadata(self, name: str) -> bytes | None:
        request = Request(
            f"metadata/{name}", MAX_ROOT, self._monotonic() + SECONDS, no_cache=True, may_be_missing=True
        )
        try:
            return self._fetcher.fetch(request)
        except NotFound:
            return None
