"""Fetches the files of metadata/, several at once: a first mount waits for round trips, not for bytes."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError, NotFound
from lazyfs.transport.fetcher import Fetcher, Request, as_stored

_SLICE = 0.2
"""Seconds between looks whether the caller was cancelled."""


class Ask(NamedTuple):
    """One file of metadata/."""

    name: str
    max_bytes: int
    optional: bool = False
    """A missing file is an answer."""
    accept: Callable[[bytes], bytes] = as_stored
    """Refuses, by raising BadData, what cannot be the file whatever its signatures say; then the fetcher
    tries elsewhere. Never for a reason that every proxy would share, such as a new key: they are no liars."""


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
        """The files by name, without the optional ones that do not exist. Raises as Fetcher.fetch."""
        if len(asks) == 1:
            return _present([asks[0].name], [self._one(asks[0], deadline, no_cache, check_cancelled)])
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
        return _present([ask.name for ask in asks], [future.result() for future in futures])

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
    """Returns when all are done; raises the first failure, or what `check_cancelled` raises."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, _SLICE, FIRST_EXCEPTION)
        for future in done:
            future.result()
        check_cancelled()


def _present(names: list[str], bodies: list[bytes | None]) -> dict[str, bytes]:
    return {name: body for name, body in zip(names, bodies, strict=True) if body is not None}
