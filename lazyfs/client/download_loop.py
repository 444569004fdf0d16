"""The thread that brings the objects of one repository, used if one thread can make many fetches.

In each turn the thread claims, in the cache, objects that were asked for, begins their fetches, and admits
the verified objects that have arrived, up to BATCH objects at a time. Work that would make the thread wait is
done in other threads. Such work is the wait for an object that another process or mount is fetching, and the
rest of a fetch that does not end with its first attempt (`transport.http_loop`).
"""

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from lazyfs.client.download import Download, Downloader, request_of
from lazyfs.client.local_cache import CacheLease, LocalCache
from lazyfs.client.thread_group import ThreadGroup
from lazyfs.core.errors import TransportError
from lazyfs.transport.fetcher import FetchLoop, Rest

log = logging.getLogger(__name__)

_WAIT: Final = 60.0
"""The largest number of seconds of one wait. New work, or the end of a fetch, ends the wait earlier."""
BATCH: Final = 8
"""The largest number of objects that are claimed together, or admitted and reported together: the reader of
one object waits for the last of them."""


class DownloadLoop:
    """One repository's downloads in one thread. `begin` and `stop` are called from other threads."""

    def __init__(
        self,
        fetches: FetchLoop,
        downloader: Downloader,
        cache: LocalCache,
        threads: ThreadGroup,
        arrived: Callable[[list[Download]], None],
    ) -> None:
        """`downloader` fetches single objects for the threads that may wait. `arrived` is called, in any
        thread, with downloads that have succeeded or failed; it must not block."""
        self._fetches = fetches
        self._downloader = downloader
        self._cache = cache
        self._threads = threads
        self._arrived = arrived
        self._asked: deque[Download] = deque()
        self._under_way: dict[Download, CacheLease | None] = {}
        """The downloads of this thread, with their claims."""
        self._waits = False
        self._stopping = self._over = False

    def begin(self, download: Download) -> bool:
        """Begins a download and returns at once; `arrived` is called when it has ended. Returns False if a
        bug has ended the loop."""
        self._asked.append(download)
        self._wake()
        if self._over:
            try:
                self._asked.remove(download)
            except ValueError:
                return True  # `run` has reported its end
            return False
        return True

    def stop(self) -> None:
        """Tells `run` to return, and does not wait for it."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        # `run` looks for new work after it has set `_waits`: a wake is never lost, and seldom needed.
        if self._waits:
            self._waits = False
            self._fetches.wake()

    def run(self) -> None:
        """Runs the loop until `stop` is called or a bug ends it; then gives up the downloads under way."""
        error = "reading was given up"
        try:
            while not self._stopping:
                self._turn()
        except Exception as bug:
            log.exception("downloads")
            error = f"{type(bug).__name__}: {bug}"
        finally:
            self._over = True
            left = list(self._under_way.items())
            while self._asked:
                left.append((self._asked.popleft(), None))
            try:
                self._fetches.close()
            finally:
                for download, lease in left:
                    download.given_up = True
                    download.error = TransportError(f"object {download.ref.digest.hex()}: {error}")
                    _release(lease)
                self._arrived([download for download, _ in left])

    def _turn(self) -> None:
        self._waits = True
        idle = not (self._asked or self._stopping)
        ended = self._fetches.advance(_WAIT if idle else 0)
        self._waits = False
        fetched: list[Download] = []
        for key, result in ended:
            assert isinstance(key, Download)
            if isinstance(result, Rest):
                self._go_on_elsewhere(key, result)
                continue
            if isinstance(result, BaseException):
                key.error = result
            else:
                key.plain = result
            fetched.append(key)
        for start in range(0, len(fetched), BATCH):
            self._end(fetched[start : start + BATCH])
        if self._asked:
            self._begin([self._asked.popleft() for _ in range(min(len(self._asked), BATCH))])

    def _begin(self, downloads: list[Download]) -> None:
        here: list[Download] = []
        self._under_way.update(dict.fromkeys(downloads))  # before anything can fail
        claims = self._cache.claim_many([download.ref.digest for download in downloads])
        for download, lease in zip(downloads, claims, strict=True):
            if lease is None:
                self._download_elsewhere(download)
                continue
            self._under_way[download] = lease
            plain = self._cache.get(download.ref.digest)
            if plain is not None and len(plain) == download.ref.size:
                download.plain = plain
                here.append(download)
            else:
                request = request_of(
                    download.ref,
                    download.deadline,
                    download.check,
                    optional=download.optional,
                    sizes=self._downloader.sizes,
                )
                self._fetches.begin(download, request, download.check)
        self._tell(here)

    def _end(self, fetched: list[Download]) -> None:
        # Space is taken only now: see Downloader.admit.
        values = [(one.ref.digest, one.plain) for one in fetched if one.plain is not None]
        if values:
            self._downloader.admitted = self._cache.put_many(values)[-1]
        self._tell(fetched)

    def _tell(self, ended: list[Download]) -> None:
        for download in ended:
            _release(self._under_way.pop(download))
        if ended:
            self._arrived(ended)

    # threads of their own

    def _go_on_elsewhere(self, download: Download, rest: Rest) -> None:
        lease = self._under_way.pop(download)

        def work() -> None:
            try:
                download.take(rest.run)
                if download.plain is not None:
                    self._downloader.admit(download.ref, download.plain)
            except Exception:  # a bug of the cache's: the bytes are right
                log.exception("object %s", download.ref.digest.hex())
            finally:
                _release(lease)

        if not self._start(download, work):
            rest.drop()
            _release(lease)
            self._arrived([download])

    def _download_elsewhere(self, download: Download) -> None:
        """Waits in another thread until the process or mount that is fetching the object is done, and
        downloads the object there if it is still missing."""
        del self._under_way[download]
        call = functools.partial(
            self._downloader.download, download.ref, download.deadline, download.check,
            optional=download.optional,
        )  # fmt: skip
        if not self._start(download, functools.partial(download.take, call)):
            self._arrived([download])

    def _start(self, download: Download, work: Callable[[], None]) -> bool:
        try:
            self._threads.start(work, lambda: self._arrived([download]))
        except RuntimeError as error:  # the node has no threads left
            download.error = TransportError(f"object {download.ref.digest.hex()}: {error}")
            return False
        return True


def _release(lease: CacheLease | None) -> None:
    if lease is not None:
        lease.__exit__(None, None, None)
