"""The downloads of one repository, made by threads."""

import functools
from collections.abc import Callable
from typing import Final

from lazyfs.client.download import Download, Downloader
from lazyfs.client.download_loop import DownloadLoop
from lazyfs.client.local_cache import LocalCache
from lazyfs.client.thread_group import ThreadGroup
from lazyfs.core.errors import TransportError
from lazyfs.transport.fetcher import Fetcher, SideBySide

_LAST_WORDS: Final = 5.0
"""Seconds that threads get to end: each notices within a slice that it has to, unless its disk hangs."""


class Downloads:
    """Threads that bring objects: one thread for all objects if the fetcher can do that, else one for each.
    Belongs to one thread."""

    def __init__(
        self, fetcher: Fetcher, cache: LocalCache, arrived: Callable[[list[Download]], None]
    ) -> None:
        """`arrived` is called in some thread with downloads that have ended, and returns at once."""
        self._cache = cache
        self._arrived = arrived
        self._downloader = Downloader(fetcher, cache)
        self._threads = ThreadGroup()
        self._side_by_side: SideBySide | None = fetcher if isinstance(fetcher, SideBySide) else None
        self._loop: DownloadLoop | None = None

    @property
    def admitted(self) -> bool:
        """True if the cache kept the last object it was given."""
        return self._downloader.admitted

    def begin(self, download: Download) -> None:
        """Begins a download; returns at once. `arrived` is told of its end."""
        if self._side_by_side is not None:
            self._begin_loop(self._side_by_side)
        if self._loop is not None and self._loop.begin(download):
            return
        call = functools.partial(self._downloader.download, download.ref, download.deadline, download.check)
        try:
            self._threads.start(functools.partial(download.take, call), lambda: self._arrived([download]))
        except RuntimeError as error:  # the node has no threads left
            download.error = TransportError(f"object {download.ref.digest.hex()}: {error}")
            self._arrived([download])

    def _begin_loop(self, fetcher: SideBySide) -> None:
        self._side_by_side = None
        fetches = fetcher.loop()
        if fetches is None:
            return
        loop = DownloadLoop(fetches, self._downloader, self._cache, self._threads, self._arrived)
        try:
            self._threads.start(loop.run, _nothing)
        except RuntimeError:  # the node has no threads left; there may be some later
            fetches.close()
            self._side_by_side = fetcher
        else:
            self._loop = loop

    def close(self) -> None:
        """Ends the threads, and waits for that. Downloads under way must have been given up before."""
        if self._loop is not None:
            self._loop.stop()
        self._threads.join(_LAST_WORDS)


def _nothing() -> None:
    """The end of the loop's thread, for which `ThreadGroup.join` waits."""
