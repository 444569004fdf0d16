"""The part between the vfs and a session: the lock, the miss path, and the counters.

A session calls the tree under `lock`. Objects that are not at hand are raised as Need; `complete` fetches
them and calls again: this is the miss path of both sessions. The lock is never held across an await, a
network access or a notification to the kernel.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from lazyfs.client.allowance import Allowance
from lazyfs.client.demand import Demand
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import BadData, LazyfsError, Outage, TransportError
from lazyfs.fuse.counters import Counters
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.fuse.openings import Openings
from lazyfs.vfs.content import NeedContent
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.held_objects import HeldKey
from lazyfs.vfs.missing_objects import Fetched, Need, NeedDecoding, NeedRepository
from lazyfs.vfs.siblings import siblings
from lazyfs.vfs.tree import Tree

if TYPE_CHECKING:  # the direct session answers before the event loop is loaded (0.1 s)
    import trio

    from lazyfs.fuse.trace import Trace

T = TypeVar("T")
Call = Callable[[Fetched], T]
"""A function that answers one request from the objects at hand and those fetched for it. It raises Need,
NeedRepository or OSError, and takes the filesystem's lock itself if it needs the lock."""
ROUNDS = 64
"""The largest number of rounds in which one call may find other objects missing. A path needs one round for
each nested catalog; more rounds mean objects that lead in circles."""

DECODINGS = 8
"""The largest number of times that objects are decoded outside the lock for one call. A call that needs more
fails: its catalogs push one another out of memory."""

log = logging.getLogger(__name__)


def _no_cache() -> tuple[int, int] | None:
    return None


class Filesystem:
    """One mount's tree, and the fetching of the objects that it lacks."""

    def __init__(
        self,
        tree: Tree,
        open_repository: Callable[[str], Awaitable[None]],
        *,
        patience: float = 30.0,
        cache_space: Callable[[], tuple[int, int] | None] = _no_cache,
        trace: "Trace | None" = None,
    ) -> None:
        """`open_repository` opens a repository of a site and calls `show` for it. For a repository that is
        shown already, but perhaps not at its newest revision, it calls `settle`. Calls for the same
        repository never overlap. `open_repository` must end by itself; it raises LazyfsError or OSError.

        `patience`: seconds after which a call that waits for objects fails with EIO. `cache_space` returns
        (limit, occupied) of the local cache in bytes, for statfs; None if there is none.
        """
        self.tree = tree
        self.lock = threading.Lock()
        self.counters = Counters()
        self.demand = Demand()
        self.allowance = Allowance()
        """The bound on the bytes that all repositories together have under way."""
        self.waiting: dict[object, tuple[str, int, float]] = {}
        """The waits under way: (repository, number of objects, start on time.monotonic()'s clock)."""
        self.cache_space = cache_space
        self.trace = trace
        self.patience = patience
        self._openings = Openings(open_repository)
        self._opened: dict[str, OpenRepository] = {}

    @cached_property
    def _decoding(self) -> "trio.CapacityLimiter":
        """Allows the decoding of one object at a time: each decoding takes the processor from the answers to
        all other calls."""
        import trio

        return trio.CapacityLimiter(1)

    def show(self, opened: OpenRepository) -> None:
        """Shows a repository as the mount's root, or as one of the folders of a site."""
        self._opened[opened.name] = opened
        with self.lock:
            self.tree.show_repository(
                Repository(
                    opened.name,
                    opened.objects,
                    opened.root,
                    opened.revision,
                    on_enter=opened.prefetching.on_enter,
                    facts=opened.facts,
                    is_newest=opened.is_newest,
                )
            )

    def settle(self, name: str) -> None:
        """Notes that a newer revision of a repository has been looked for. From now on, a name that the shown
        revision lacks is answered as missing: no newer revision is waited for."""
        with self.lock:
            repository = self.tree.repositories.get(name)
            if repository is not None:
                repository.is_newest = True

    def withdraw(self, name: str) -> None:
        """Stops showing a repository of a site. Returns at once; the caller tells the kernel."""
        self._opened.pop(name, None)
        with self.lock:
            self.tree.repositories.pop(name, None)

    def repository(self, name: str) -> OpenRepository:
        """Returns a repository that is shown. Raises NeedRepository for one that is not."""
        opened = self._opened.get(name)
        if opened is None:
            raise NeedRepository(name)
        return opened

    def catalogs_in_use(self) -> list[tuple[str, HeldKey]]:
        """Returns each catalog in memory, with the repository for which it was read; the most recently used
        one last."""
        with self.lock:
            return self.tree.parsed.catalogs()

    def locked(self, call: Call[T]) -> Call[T]:
        """Returns a call that takes the lock around `call`."""
        lock = self.lock

        def under_lock(fetched: Fetched) -> T:
            with lock:
                return call(fetched)

        return under_lock

    async def complete(self, call: Call[T], missing: Need | NeedRepository | None = None) -> T:
        """Returns the call's answer once every object it needs is here. Raises OSError.

        `missing`: the Need that an earlier try of the call raised; its objects are fetched first. Without
        `missing` the call is tried at once.
        """
        fetched: dict[Digest, bytes] = {}
        decodings = 0
        deadline = time.monotonic() + self.patience
        for _ in range(ROUNDS):
            if missing is None:
                try:
                    return call(fetched)
                except (Need, NeedRepository) as need:
                    missing = need.with_traceback(None)  # its traceback holds this frame: a cycle
                except LazyfsError as error:
                    raise self.fault(error) from error
                except OSError:
                    raise
                except Exception as bug:
                    raise self.bug(bug) from bug
            profile = self._tell_of_miss(missing, fetched) if isinstance(missing, NeedContent) else None
            if isinstance(missing, NeedDecoding):
                decodings += 1
                if decodings > DECODINGS:
                    raise self.fault(BadData("catalogs that are too large to be in memory together"))
                missing = await self._decode(missing)
                continue
            if isinstance(missing, Need):
                await self._fetch(missing, fetched, deadline, profile)
            else:
                await self._open(missing.name, deadline)
            missing = None
        raise self.fault(BadData("catalogs that lead into one another without end"))

    async def _decode(self, need: NeedDecoding) -> Need | None:
        """Decodes an object that a call needs, in a thread and without the lock. Returns the Need of objects
        that are missing for this; None if the object is decoded. Raises OSError."""
        import trio

        try:
            keep = await trio.to_thread.run_sync(need.decode, limiter=self._decoding)
            with self.lock:
                keep()
        except Need as missing:
            return missing.with_traceback(None)
        except LazyfsError as error:
            raise self.fault(error) from error
        except Exception as bug:
            raise self.bug(bug) from bug
        return None

    def _tell_of_miss(self, miss: NeedContent, fetched: Fetched) -> Digest | None:
        """Tells the prefetching of a miss. Returns the profile that a small file's reader waits for."""
        opened = self._opened.get(miss.repository)
        if opened is None:
            return None  # withdrawn: the fetch raises the error
        with self.lock:
            try:
                around = siblings(self.tree, miss.plan.number, fetched)
            except (Need, OSError, LazyfsError):
                around = None  # the catalog was dropped, or the kernel gave the number back
            return opened.prefetching.on_miss(miss.plan, around, fetched)

    async def _fetch(
        self, need: Need, fetched: dict[Digest, bytes], deadline: float, profile: Digest | None
    ) -> None:
        """Adds the missing objects to `fetched`. `profile`: the one that may bring a copy of a small file.
        Raises OSError unless all of them come."""
        import trio

        opened = self._opened.get(need.repository)
        if opened is None:
            raise self.fault(TransportError(f"repository {need.repository} is not shown any longer"))
        source = opened.objects
        file = need.plan.small_file if isinstance(need, NeedContent) else None
        self.counters.misses += len(need.refs)
        self.counters.fetched_bytes += sum(ref.size for ref in need.refs)
        started = time.monotonic()
        token = object()
        self.waiting[token] = (need.repository, len(need.refs), started)
        self.demand.began()
        failures: list[LazyfsError] = []

        async def one(ref: ObjectRef, scope: trio.CancelScope | None) -> None:
            try:
                found = await source.fetch_copy(file, profile, deadline=deadline) if file else {}
                if not found:
                    found = {ref.digest: await source.fetch(ref, deadline=deadline, hurried=True)}
                fetched.update(found)
            except LazyfsError as error:
                failures.append(error)
                # After an outage one of the others may still find a path.
                if scope is not None and not isinstance(error, Outage):
                    scope.cancel()

        try:
            if len(need.refs) == 1:
                await one(need.refs[0], None)
            else:
                async with trio.open_nursery() as nursery:
                    for ref in need.refs:
                        nursery.start_soon(one, ref, nursery.cancel_scope)
        finally:
            del self.waiting[token]
            self.demand.ended()
        if failures:
            raise self.fault(failures[0]) from failures[0]
        seconds = time.monotonic() - started
        self.counters.waited(seconds)
        if self.trace is not None:
            for ref in need.refs:
                self.trace.line("fetch", b"", ref.digest, ref.size, "network", seconds)

    async def _open(self, name: str, deadline: float) -> None:
        try:
            await self._openings.wait_for(name, deadline)
        except LazyfsError as error:
            raise self.fault(error) from error

    def fault(self, error: LazyfsError) -> OSError:
        """Counts and logs an error; returns the OSError, EIO, that the caller of the filesystem gets."""
        kind = type(error).__name__
        self.counters.faults[kind] = self.counters.faults.get(kind, 0) + 1
        log.warning("EIO: %s: %s", kind, error)
        return OSError(errno.EIO, os.strerror(errno.EIO))

    def bug(self, error: Exception) -> OSError:
        """Logs an unexpected error and returns EIO as `fault` does; call it where the exception is
        handled."""
        kind = type(error).__name__
        self.counters.faults[kind] = self.counters.faults.get(kind, 0) + 1
        log.exception("EIO")
        return OSError(errno.EIO, os.strerror(errno.EIO))
