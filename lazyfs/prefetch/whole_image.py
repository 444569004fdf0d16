"""Fetches all objects of an image that are not in the cache yet, because somebody asked for it: a job, with
progress.

The catalogs and chunk lists come first, so that the total is known. Then come packs and chunks in the order
of the catalogs, as many at a time as fill a line; none is begun while a reader waits. Objects that are in the
cache already are passed over, so a job that was stopped goes on where it was.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import trio

from lazyfs.client.demand import Demand
from lazyfs.client.objects import Objects
from lazyfs.core.byte_size import shown_size
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError, TransportError, UsageError
from lazyfs.core.reach import Reached, Seen, catalog_at, leads_to
from lazyfs.prefetch.pace import Pace

AT_ONCE: Final = 8
"""The largest number of objects under way: at 50 ms, packs of half a mebibyte fill a line of 500 Mbit/s."""
LEASE: Final = 30.0
"""Seconds after which a job ends if nobody asks about it: the command was killed."""
SHARE: Final = 0.9
"""The largest share of the cache's limit that an image may take; a larger image would push itself out."""

log = logging.getLogger(__name__)


class ImageProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job. Bytes are plaintext."""

    state: str
    """`listing`, `fetching`, `done`, `stopped` or `failed`."""
    objects: int
    """The number of the image's objects, as far as they are known."""
    bytes: int
    here_objects: int
    """The number of the image's objects that are in the cache."""
    here_bytes: int
    fetched_bytes: int
    """Bytes that this job has brought."""
    problem: str
    """The reason of a failure; empty if there is none."""


class WholeImage:
    """One job. Belongs to one trio run."""

    def __init__(
        self,
        objects: Objects,
        demand: Demand,
        cache_limit: Callable[[], int],
        top: ObjectRef,
        *,
        at_once: int = AT_ONCE,
        only: Sequence[ObjectRef] | None = None,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[object]] = trio.sleep,
    ) -> None:
        """`cache_limit` returns the bytes that the cache may hold; it may block. `top`: the image's top
        catalog. `at_once`: the largest number of objects under way. `only`: the objects to fetch, in this
        order; None for all of the image. `rate`: the largest number of plaintext bytes a second; None: no
        limit."""
        self._objects = objects
        self._demand = demand
        self._cache_limit = cache_limit
        self._at_once = at_once
        self._pace = Pace(rate) if rate is not None else None
        self._clock = clock
        self._pause = pause
        self._leading: deque[Reached] = deque()
        self._others: deque[ObjectRef] = deque()
        self._seen = Seen()
        self._scope = trio.CancelScope()
        self._asked = clock()
        self._counts = [0] * 5
        """Numbers of: objects, their bytes, objects in the cache, their bytes, bytes fetched by this job."""
        self._listing = 0
        """Number of tasks under way that may find more objects."""
        self._listed = trio.Event()
        """Set when one of the tasks that `_listing` counts has ended, with or without more objects."""
        self.state = "listing"
        self.problem = ""
        if only is None:
            self._enter(catalog_at(top))
        else:
            self._others.extend(only)
            self._counts[:2] = len(only), sum(ref.size for ref in only)

    def progress(self) -> ImageProgress:
        """Returns the job's progress. Asking keeps the job alive."""
        self._asked = self._clock()
        objects, size, here, here_bytes, fetched = self._counts
        return ImageProgress(
            state=self.state,
            objects=objects,
            bytes=size,
            here_objects=here,
            here_bytes=here_bytes,
            fetched_bytes=fetched,
            problem=self.problem,
        )

    @property
    def over(self) -> bool:
        """True once the job has ended."""
        return self.state not in ("listing", "fetching")

    def stop(self) -> None:
        """Ends the job; the objects that have come stay."""
        self._scope.cancel()

    async def run(self) -> None:
        """Carries the job out. Raises nothing; `state` has the result."""
        try:
            with self._scope:
                await self._side_by_side(self._list)
                await self._check_size()
                self.state = "fetching"
                await self._side_by_side(self._fetch_other)
                self.state = "done"
        except LazyfsError as error:
            self.state, self.problem = "failed", str(error)
        except Exception as bug:
            log.exception("fetching an image")
            self.state, self.problem = "failed", f"{type(bug).__name__}: {bug}"
        if self._scope.cancelled_caught:
            self.state = "stopped"

    async def _side_by_side(self, work: Callable[[], Awaitable[bool]]) -> None:
        """Calls `work` in `at_once` tasks until it returns False in each. Raises the first error."""
        failures: list[Exception] = []

        async def task(scope: trio.CancelScope) -> None:
            try:
                while await work():
                    if self._clock() - self._asked > LEASE:
                        self._scope.cancel()
            except Exception as error:  # noqa: BLE001 - raised again below, alone and not in a group
                failures.append(error)
                scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(self._at_once):
                nursery.start_soon(task, nursery.cancel_scope)
        if failures:
            raise failures[0]

    async def _list(self) -> bool:
        """Fetches a catalog or chunk list and notes the objects that it names. Returns False if there is
        nothing to do: all catalogs and chunk lists are in the cache, and no other task is about to find
        more."""
        while not self._leading:
            if not self._listing:
                return False
            await self._listed.wait()
        found = self._leading.popleft()
        self._listing += 1
        try:
            plain = await self._bring(found.ref)
            if plain is None:
                plain = await trio.to_thread.run_sync(self._objects.at_hand, found.ref)
            if plain is None:
                raise TransportError(f"{found.kind} {found.ref.digest.hex()}: the cache does not keep it")
            for one in await trio.to_thread.run_sync(_all, found, plain):
                self._enter(one)
        finally:
            self._listing -= 1
            self._listed.set()
            self._listed = trio.Event()
        return True

    async def _check_size(self) -> None:
        limit = await trio.to_thread.run_sync(self._cache_limit)
        if self._counts[1] > limit * SHARE:
            raise UsageError(
                f"the image takes {shown_size(self._counts[1])} of a cache of {shown_size(limit)}: give the "
                "mount a larger one with --cache-limit, or lazyfs cache resize"
            )

    async def _fetch_other(self) -> bool:
        """Fetches a pack or chunk. Returns False if there is none left."""
        if not self._others:
            return False
        await self._bring(self._others.popleft())
        return True

    async def _bring(self, ref: ObjectRef) -> bytes | None:
        """Brings an object into the cache. Returns its bytes if they had to be fetched, None if it was
        there."""
        if self._objects.is_at_hand(ref):
            await trio.lowlevel.checkpoint()
            self._count(ref)
            return None
        if self._pace is not None:
            await self._wait(self._pace.wait(ref.size, self._clock()))
        await self._demand.idle()
        plain = await self._objects.fetch(ref, ahead=True)
        self._count(ref)
        self._counts[4] += ref.size
        if not self._objects.keeps:
            raise TransportError("the cache does not keep what is fetched: see lazyfs status")
        return plain

    async def _wait(self, seconds: float) -> None:
        """Waits for `seconds`, in parts of at most LEASE seconds. After each part, ends the job if nobody has
        asked about it for LEASE seconds."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            await self._pause(min(left, LEASE))
            if self._clock() - self._asked > LEASE:
                self._scope.cancel()

    def _count(self, ref: ObjectRef) -> None:
        self._counts[2] += 1
        self._counts[3] += ref.size

    def _enter(self, found: Reached) -> None:
        if self._seen.first(found):
            self._counts[0] += 1
            self._counts[1] += found.ref.size
            if found.leads_on:
                self._leading.append(found)
            else:
                self._others.append(found.ref)


def _all(found: Reached, plain: bytes) -> list[Reached]:
    """Returns the objects that a catalog or chunk list leads to, each pack once."""
    listed = {}
    for one in leads_to(found, plain):
        listed[one.ref, one.kind, one.file_size if one.leads_on else 0] = one
    return list(listed.values())
