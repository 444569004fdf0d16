"""The downloads of one repository, made by threads."""

import functools
from collections.abc import Callable
from typing import Final

from lazyfs.client.download import Download, Downloader
from lazyfs.client.download_loop import DownloadLoop
from lazyfs.client.local_cache import LocalCache
from lazyfs.client.thread_group import ThreadGroup
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import TransportError
from lazyfs.transport.fetcher import Fetcher, SideBySide

_LAST_WORDS: Final = 5.0
"""Seconds to wait for the threads to end. Each notices within a fraction of a second that it must end, unless
its disk hangs."""


class Downloads:
    """Threads that bring objects: one thread for all objects if the fetcher can do that, else one for each.
    Belongs to one thread."""

    def __init__(
        self,
        fetcher: Fetcher,
        cache: LocalCache,
        arrived: Callable[[list[Download]], None],
        ended: Callable[[list[Download]], None],
    ) -> None:
        """`arrived` is called with downloads whose bytes are here, before the cache admits them; `ended` with
        downloads that have succeeded or failed. Both are called in any thread, and must not block."""
        self._fetcher = fetcher
        self._cache = cache
        self._arrived = arrived
        self._ended = ended
        self._downloader = Downloader(fetcher, cache)
        self._threads = ThreadGroup()
        self._side_by_side: SideBySide | None = fetcher if isinstance(fetcher, SideBySide) else None
        self._loop: DownloadLoop | None = None

    @property
    def admitted(self) -> bool:
        """True if the cache admitted the last object."""
        return self._downloader.admitted

    def size_of(self, ref: ObjectRef) -> int:
        """Returns an estimate of the bytes that an object takes on its way: it is compressed, and only a few
        objects are decompressed at one time."""
        return self._downloader.sizes.of(ref.size)

    def expect(self, count: int) -> None:
        """Makes ready for `count` downloads that will begin within some seconds, and returns at once.
        Thread-safe."""
        if isinstance(self._fetcher, SideBySide):
            self._fetcher.expect(count)

    def begin(self, download: Download) -> None:
        """Begins a download and returns at once. `ended` is called with the download when it has ended."""
        if self._side_by_side is not None:
            self._begin_loop(self._side_by_side)
        if self._loop is not None and self._loop.begin(download):
            return
        take = functools.partial(self._downloader.take, download, self._arrived)
        try:
            self._threads.start(take, lambda: self._ended([download]))
        except RuntimeError as error:  # the node has no threads left
            download.error = TransportError(f"object {download.ref.digest.hex()}: {error}")
            self._ended([download])

    def _begin_loop(self, fetcher: SideBySide) -> None:
        self._side_by_side = None
        try:
            fetches = fetcher.loop()
        except OSError:  # the node has no descriptors left; there may be some later
            self._side_by_side = fetcher
            return
        if fetches is None:
            return
        loop = DownloadLoop(fetches, self._downloader, self._cache, self._threads, self._arrived, self._ended)
        try:
            self._threads.start(loop.run, _nothing)
        except RuntimeError:  # the node has no threads left; there may be some later
            fetches.close()
            self._side_by_side = fetcher
        else:
            self._loop = loop

    def close(self) -> None:
        """Ends the threads, and waits for their end. The caller must have given up all downloads under
        way."""
        if self._loop is not None:
            self._loop.stop()
        self._threads.join(_LAST_WORDS)


def _nothing() -> None:
    """Does nothing when the thread of a DownloadLoop ends: `ThreadGroup.join` waits for its end."""
