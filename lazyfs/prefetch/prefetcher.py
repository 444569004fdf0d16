"""The façade of this room: one object for each repository, which is told of its reads and fetches ahead."""

import logging
from collections.abc import Callable, Iterable

import trio

from lazyfs.client.objects import Objects
from lazyfs.core.digest import ObjectRef
from lazyfs.prefetch.policy import PrefetchPolicy
from lazyfs.prefetch.profiles import ProfilePrefetch
from lazyfs.prefetch.programs import MAGIC, Head
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.prefetch.system_task import begin
from lazyfs.prefetch.upper_catalogs import UpperCatalogs
from lazyfs.transport.fetcher import Fetcher
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import Fetched, LocalObjects
from lazyfs.vfs.siblings import Siblings

log = logging.getLogger(__name__)


class Prefetcher:
    """Fetches ahead for one repository.

    `on_read`, `on_miss`, `on_arrival` and `on_enter` are called from any thread, under the filesystem's lock,
    and return at once. The objects they choose are fetched later, in the event loop that the prefetcher was
    made in: the reader's own fetch begins first.
    """

    def __init__(self, objects: Objects, fetcher: Fetcher, cache_limit: Callable[[], int]) -> None:
        """Belongs to the trio run it is made in. `cache_limit` returns the bytes that the cache may hold."""
        self._objects = objects
        self._token = trio.lowlevel.current_trio_token()
        self._policy = PrefetchPolicy()
        self._queue = PrefetchQueue(objects)
        self._profiles = ProfilePrefetch(objects, fetcher, cache_limit)

    def on_open(self, root: ObjectRef) -> None:
        """Begins to fetch the catalogs between the repository's root and its images. Called in the event
        loop."""
        begin(UpperCatalogs(self._objects).run, root, name=f"catalogs below {root.digest.hex()[:12]}")

    def on_enter(self, profile: ObjectRef) -> None:
        """An image with a profile is looked up."""
        self._soon(lambda: self._profiles.start(profile))

    def on_read(self, read: ReadPlan) -> None:
        """A read is asked for."""
        self._fetch(self._policy.on_read(read))

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> None:
        """A read has to wait for objects. `siblings`: the directory around its file, if there is one."""
        self._fetch(self._policy.on_miss(read, siblings, head_of(read, self._objects, fetched)))

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None:
        """A read that had to wait has the objects it needs."""
        self._fetch(self._policy.on_arrival(read, head_of(read, self._objects, fetched)))

    def bundles(self) -> dict[str, int]:
        """Returns the numbers of fetched and failed bundles."""
        return {"fetched": self._profiles.fetched, "failed": self._profiles.failed}

    def _fetch(self, refs: Iterable[ObjectRef]) -> None:
        if refs:
            self._soon(lambda: self._queue.start(refs))

    def _soon(self, call: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(_logged, call)
        except trio.RunFinishedError:
            pass  # the mount has ended; a reader thread finds out a moment later


def _logged(call: Callable[[], None]) -> None:
    """Logs an exception instead of raising it: in a call that trio runs it would end the whole run."""
    try:
        call()
    except Exception:
        log.exception("fetching ahead")


def head_of(read: ReadPlan, objects: LocalObjects, fetched: Fetched) -> Head:
    """Returns a function that finds the first bytes of a chunked file, if they are at hand."""

    def head() -> bytes | None:
        if read.chunks is None:
            return None
        first = read.chunks.chunk(0)
        return fetched.get(first.digest) or objects.read_at_hand(first, 0, len(MAGIC))

    return head
