"""Fetches the files of metadata/, several at once: a first mount waits for round trips, not for bytes.

The first failure ends the other fetches, except in an outage: then only one request looks for a path, and all
others fail at once. When that request has found a path, the failed ones are retried.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError, NotFound, Outage
from lazyfs.transport.fetcher import Fetcher, Request, as_stored

_SLICE = 0.2
"""Seconds between two checks for the caller's cancellation."""


class Ask(NamedTuple):
    """A request for one file of metadata/."""

    name: str
    max_bytes: int
    optional: bool = False
    """True if a missing file is a valid answer."""
    accept: Callable[[bytes], bytes] = as_stored
    """A check that raises BadData for bytes that cannot be the file under any signature; the fetcher then
    tries another path. It must not raise for a reason that every proxy would share, such as a new key: all
    proxies would then be blamed for wrong bytes."""


class _GivenUp(LazyfsError):
    """Ends a fetch whose caller is gone."""


class MetadataFiles:
    """Metadata of one store. Blocking and thread-safe."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def get(
        self,
        asks: Sequence[Ask],
        deadline: float,
        check_cancelled: Callable[[], None],
        *,
        no_cache: bool = False,
    ) -> dict[str, bytes]:
        """Returns the files by name, without the optional ones that do not exist. `no_cache`: True to ask the
        origin, past all caches. Raises as Fetcher.fetch."""
        found: dict[str, bytes] = {}
        while len(asks) > 1:
            answers = self._together(asks, deadline, check_cancelled, no_cache)
            outages = [answer for answer in answers.values() if isinstance(answer, Outage)]
            if len(outages) == len(asks):
                raise outages[0]
            found |= {name: answer for name, answer in answers.items() if isinstance(answer, bytes)}
            asks = [ask for ask in asks if isinstance(answers[ask.name], Outage)]
        for ask in asks:
            if (body := self._one(ask, deadline, no_cache, check_cancelled)) is not None:
                found[ask.name] = body
        return found

    def _together(
        self, asks: Sequence[Ask], deadline: float, check_cancelled: Callable[[], None], no_cache: bool
    ) -> dict[str, bytes | Outage | None]:
        """Returns for each file name the file, or None if the file is optional and missing, or the Outage
        that ended its fetch. Raises any other failure."""
        stop = threading.Event()

        def check() -> None:
            if stop.is_set():
                raise _GivenUp("the caller is gone")

        with ThreadPoolExecutor(len(asks), "lazyfs-metadata") as pool:
            futures = [pool.submit(self._one, ask, deadline, no_cache, check) for ask in asks]
            try:
                _wait(futures, check_cancelled)
            finally:
                stop.set()
        return {ask.name: _result(future) for ask, future in zip(asks, futures, strict=True)}

    def _one(
        self, ask: Ask, deadline: float, no_cache: bool, check_cancelled: Callable[[], None]
    ) -> bytes | None:
        request = Request(
            f"metadata/{ask.name}", ask.max_bytes, deadline, no_cache, ask.accept, may_be_missing=ask.optional
        )
        try:
            return self._fetcher.fetch(request, check_cancelled)
        except NotFound:
            if ask.optional:
                return None
            raise


def _wait(futures: list[Future[bytes | None]], check_cancelled: Callable[[], None]) -> None:
    """Waits until all fetches are done. Raises the first failure that is not an Outage, or the exceptions of
    `check_cancelled`."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, _SLICE, FIRST_EXCEPTION)
        for future in done:
            _result(future)
        check_cancelled()


def _result(future: Future[bytes | None]) -> bytes | Outage | None:
    try:
        return future.result()
    except Outage as outage:
        return outage
