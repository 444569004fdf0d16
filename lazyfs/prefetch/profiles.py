"""The objects that earlier starts of an image touched, fetched in bundles when the image is entered.

A few bundles are under way at a time, in the order in which a start wants them. A reader of an object in one
of them waits for the bundle instead of asking a second time; a reader of an object in a later bundle fetches
the object alone. Every member is checked by its own digest before the cache gets it. A bundle that is missing
or wrong costs only time: its objects are fetched singly.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from lazyfs.client.objects import Objects
from lazyfs.core import bundle as bundles
from lazyfs.core import codec, profile
from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import LazyfsError
from lazyfs.core.profile import Bundle
from lazyfs.prefetch.line_share import LineShare
from lazyfs.prefetch.profile_schedule import FAILURES, ProfileSchedule, fits, is_here
from lazyfs.prefetch.system_task import begin
from lazyfs.transport.fetcher import Fetcher, Request, still_wanted

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Most bundles under way: a single connection begins slowly, and many would hold up the first bundles."""
PATIENCE: Final = 60.0
SLOWEST: Final = 16 << 10
"""The timeout of a bundle is PATIENCE seconds, and one second more for each SLOWEST bytes: on a line of half
a megabit a second, each of four bundles at once gets that rate. Readers do not wait that long
(`objects.BUNDLE_PATIENCE`), but a bundle given up would be fetched twice."""


class _Run:
    """The bundles of one profile that is being fetched."""

    def __init__(self, bundles: list[Bundle]) -> None:
        self.waiting = iter(bundles)
        self.failed = 0
        self.passed_over = 0


class ProfilePrefetch:
    """Fetches the profiles of one repository. Belongs to one trio run."""

    def __init__(
        self,
        objects: Objects,
        fetcher: Fetcher,
        cache_limit: Callable[[], int],
        share: LineShare | None = None,
    ) -> None:
        """`cache_limit` returns the bytes that the cache may hold. `share`: bounds the bundles under way."""
        self._objects = objects
        self._fetcher = fetcher
        self._cache = objects.cache
        self._cache_limit = cache_limit
        self._limiter = trio.CapacityLimiter((share or LineShare()).of(AT_ONCE))
        self._schedule = ProfileSchedule()
        self.fetched = 0
        """Number of bundles fetched."""
        self.failed = 0

    def start(self, ref: ObjectRef) -> None:
        """Begins to fetch the objects that a profile lists, unless it was begun before; returns at once."""
        if self._objects.keeps and self._schedule.begin(ref.digest, time.monotonic()):
            begin(self._run, ref, name=f"profile {ref.digest.hex()[:12]}")

    async def _run(self, ref: ObjectRef) -> None:
        done = False
        # A system task: an error that escapes would end the whole trio run.
        with self._counted(f"profile {ref.digest.hex()}"):
            done = await self._all(ref)
        self._schedule.ended(ref.digest)
        if not done:
            self._schedule.failed(ref.digest, time.monotonic())

    async def _all(self, ref: ObjectRef) -> bool:
        """Fetches the objects that the profile lists. Returns True if no object is left to fetch."""
        if await trio.to_thread.run_sync(self._objects.at_hand, ref) is not None:
            return True  # a profile is kept, below, only after every object in it
        plain = await trio.to_thread.run_sync(
            self._fetch, object_path(ref.digest), codec.frame_bound(ref.size),
            lambda frame, check_left: codec.open_object(frame, ref, check_left), limiter=self._limiter,
        )  # fmt: skip
        listed = profile.decode(plain)
        if not fits(listed, await trio.to_thread.run_sync(self._cache_limit)):
            log.info("profile %s is too large for the cache", ref.digest.hex())
            return True
        run = _Run(listed)
        self._objects.expected.update(member.digest for one in listed for member in one.members)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._work, run)
        if run.failed or run.passed_over:
            return False
        await trio.to_thread.run_sync(self._keep, ref, plain)
        return True

    async def _work(self, run: "_Run") -> None:
        for one in run.waiting:
            if self._objects.keeps and run.failed < FAILURES:
                done = await self._take(one)
                run.failed += not done
            else:
                run.passed_over += 1
            self._objects.expected.difference_update(ref.digest for ref in one.members)

    async def _take(self, one: Bundle) -> bool:
        """Fetches a bundle, unless its objects are here. Returns False if it failed."""
        # Entered before anything is awaited: a reader who comes while the disk is asked waits too.
        came = trio.Event()
        coming = self._objects.coming
        members = {ref.digest for ref in one.members if ref.digest not in coming}
        coming.update(dict.fromkeys(members, came))
        done = False
        try:
            with self._counted(f"bundle {one.name.hex()}"):
                self.fetched += await trio.to_thread.run_sync(self._fetch_bundle, one, limiter=self._limiter)
                done = True
        finally:
            for digest in members:
                del coming[digest]
            came.set()
        return done

    @contextmanager
    def _counted(self, what: str) -> Iterator[None]:
        """Counts and logs a failure or a bug in its block instead of raising it."""
        try:
            yield
        except LazyfsError as error:
            self.failed += 1
            log.warning("%s: %s", what, error)
        except Exception:
            self.failed += 1
            log.exception("%s", what)

    def _fetch_bundle(self, one: Bundle) -> bool:
        """Fetches a bundle and keeps its members. Runs in a worker thread. Returns True if the bundle had to
        be fetched."""
        here = sum(
            ref.size for ref in one.members if self._cache.read(ref.digest, 0, 1, ref.size) is not None
        )
        if is_here(one, here):
            return False

        def accept(body: bytes, check_left: codec.Check) -> bytes:
            reader = bundles.Reader(one.name, one.members, check_left)
            for ref, plain in reader.feed(body):
                self._keep(ref, plain)
            reader.finish()
            return b""

        self._fetch(object_path(one.name), one.stored, accept)
        return True

    def _keep(self, ref: ObjectRef, plain: bytes) -> None:
        """Admits a verified object, unless another flight or process is fetching it or there is no room."""
        claim = self._cache.claim(ref.digest)
        if claim is None:
            return
        with claim:
            if self._cache.read(ref.digest, 0, 1, ref.size) is None:
                self._cache.put(ref.digest, plain)

    def _fetch(self, path: str, most: int, accept: Callable[[bytes, codec.Check], bytes]) -> bytes:
        # may_be_missing: a server that lacks a bundle is not at fault, since no reader needs it
        deadline = time.monotonic() + PATIENCE + most / SLOWEST
        still = still_wanted(path, deadline, trio.from_thread.check_cancelled)
        request = Request(path, most, deadline, accept=lambda body: accept(body, still), may_be_missing=True)
        return self._fetcher.fetch(request, trio.from_thread.check_cancelled)
