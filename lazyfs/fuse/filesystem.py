"""Between the vfs and a session: the lock, the miss path, and what is counted.

A session asks the tree under `lock`. What is not at hand comes as Need, and `complete` brings it and asks
again: that is the whole miss path, the same for both sessions. The lock is never held across an await, a
network access or a notification to the kernel.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import trio

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chain.faults import Outage
from lazyfs.core.chunks import ChunkSlice
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import BadData, DeadlineExceeded, LazyfsError, TransportError
from lazyfs.fuse.counters import Counters
from lazyfs.fuse.trace import Trace
from lazyfs.prefetch.neighbours import Neighbours
from lazyfs.prefetch.programs import Programs
from lazyfs.prefetch.readahead import ReadAhead
from lazyfs.vfs import content
from lazyfs.vfs.missing_objects import NOTHING, Brought, LocalObjects, Need, NeedRepository
from lazyfs.vfs.revision_switch import Change, switch
from lazyfs.vfs.tree import Repository, Tree

T = TypeVar("T")
ROUNDS = 64
"""How often one call may find something else missing. A path through nested catalogs needs one round each;
more means objects that lead in circles."""

log = logging.getLogger(__name__)


class Source(LocalObjects, Protocol):
    """Objects of one repository, at hand or to be brought."""

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None) -> bytes:
        """The verified plaintext; raises TransportError or BadData."""
        ...


class Ahead(Protocol):
    """Fetches without anybody waiting."""

    def start(self, refs: Iterable[ObjectRef]) -> None:
        """Begins to fetch what is not here; returns at once. Called in the event loop."""
        ...


class Profiled(Protocol):
    """Fetches what earlier starts touched."""

    def start(self, ref: ObjectRef) -> None:
        """Begins with what this profile lists; returns at once. Called in the event loop."""
        ...


class Notified(Protocol):
    """The part of a session that tells the kernel to forget."""

    def forget_inode(self, number: int) -> None: ...

    def forget_entry(self, parent: int, name: bytes) -> None: ...


class _NotMounted:
    """Before the mount there is no kernel to tell."""

    def forget_inode(self, number: int) -> None: ...

    def forget_entry(self, parent: int, name: bytes) -> None: ...


class Filesystem:
    """One mount's tree with its way to bring what is missing."""

    def __init__(
        self,
        tree: Tree,
        open_repository: Callable[[str], Awaitable[None]],
        *,
        patience: float = 30.0,
    ) -> None:
        """`open_repository` makes a repository of a site known to the tree; raises LazyfsError.

        `patience`: seconds after which a call that waits for objects fails with EIO.
        """
        self.tree = tree
        self.lock = threading.Lock()
        self.sources: dict[str, Source] = {}
        """By repository: where missing objects come from."""
        self.ahead: dict[str, Ahead] = {}
        """By repository: who fetches what nobody waits for yet."""
        self.profiles: dict[str, Profiled] = {}
        """By repository: who fetches what an image's profile lists."""
        tree.profiled = self._enter
        self.token: trio.lowlevel.TrioToken | None = None
        """The event loop that fetches ahead. None: nothing is fetched ahead."""
        self._readahead = ReadAhead()
        self._neighbours = Neighbours()
        self._programs = Programs()
        self.trace: Trace | None = None
        self.cache_space: Callable[[], tuple[int, int] | None] = lambda: None
        """(limit, occupied) of the local cache in bytes, for statfs; None if there is none."""
        self.counters = Counters()
        self.patience = patience
        self._open_repository = open_repository
        self.session: Notified = _NotMounted()
        """Where notifications go."""
        self.changed: Callable[[set[int]], None] = lambda _: None
        """Called under the lock with the folders that show something else from now on."""

    def catalogs_in_use(self) -> dict[Digest, int]:
        """The catalogs in memory, with their sizes, the latest used last."""
        with self.lock:
            return self.tree.parsed.catalogs()

    async def complete(self, call: Callable[[Brought], T]) -> T:
        """The call's answer, once everything it needs is here. Raises OSError."""
        brought: dict[Digest, bytes] = {}
        deadline = time.monotonic() + self.patience
        for _ in range(ROUNDS):
            try:
                with self.lock:
                    return call(brought)
            except Need as need:
                await self._bring(need, brought, deadline)
            except NeedRepository as need:
                await self._open(need.name, deadline)
            except LazyfsError as error:
                raise self.fault(error) from error
            except OSError:
                raise
            except Exception as bug:
                raise self.bug(bug) from bug
        raise self.fault(BadData("catalogs that lead into one another without end"))

    async def _bring(self, need: Need, brought: dict[Digest, bytes], deadline: float) -> None:
        source = self.sources.get(need.repository)
        if source is None:
            raise self.fault(TransportError(f"repository {need.repository} is not shown any longer"))
        self.counters.misses += len(need.refs)
        self.counters.fetched_bytes += sum(ref.size for ref in need.refs)
        started = time.monotonic()
        if len(need.refs) == 1:
            try:
                brought[need.refs[0].digest] = await source.fetch(need.refs[0], deadline=deadline)
            except LazyfsError as error:
                raise self.fault(error) from error
        else:
            failures: list[LazyfsError] = []

            async def one(ref: ObjectRef, nursery: trio.Nursery) -> None:
                try:
                    brought[ref.digest] = await source.fetch(ref, deadline=deadline)
                except LazyfsError as error:
                    failures.append(error)
                    if not isinstance(error, Outage):  # then one of the others may be looking for a path
                        nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                for ref in need.refs:
                    nursery.start_soon(one, ref, nursery)
            if failures:
                raise self.fault(failures[0]) from failures[0]
        seconds = time.monotonic() - started
        self.counters.waited(seconds)
        if self.trace is not None:
            for ref in need.refs:
                self.trace.line("fetch", b"", ref.digest, ref.size, "network", seconds)

    async def _open(self, name: str, deadline: float) -> None:
        try:
            with trio.fail_after(deadline - time.monotonic()):
                await self._open_repository(name)
        except trio.TooSlowError:
            raise self.fault(DeadlineExceeded(f"repository {name}: not open by the deadline")) from None
        except LazyfsError as error:
            raise self.fault(error) from error

    def read(self, number: int, offset: int, length: int, brought: Brought) -> list[bytes]:
        """Bytes of a file, in pieces to be joined; call it under the lock. Raises Need or OSError."""
        started = time.monotonic()
        entry, repository, parts = self._parts(number, offset, length, brought)
        try:
            pieces = content.pieces(repository, parts, brought)
        except Need:
            self._soon(repository, self._neighbours.missed(self.tree, number, brought))
            self._programs_rest(repository, entry, offset, brought)
            raise
        if brought:
            self._programs_rest(repository, entry, offset, brought)
        self.counters.read_bytes += sum(map(len, pieces))
        if self.trace is not None:
            self._trace(number, parts, brought, time.monotonic() - started)
        return pieces

    def read_at_hand(self, number: int, offset: int, length: int) -> list[bytes]:
        """The same of what is at hand: takes the lock while the parts are found, not while they are read from
        the local disk. The caller counts the bytes."""
        started = time.monotonic()
        with self.lock:
            _, repository, parts = self._parts(number, offset, length, NOTHING)
        pieces = content.pieces(repository, parts)
        if self.trace is not None:
            with self.lock:
                self._trace(number, parts, NOTHING, time.monotonic() - started)
        return pieces

    def _parts(
        self, number: int, offset: int, length: int, brought: Brought
    ) -> tuple[Entry, Repository, list[ChunkSlice]]:
        """Which objects hold the bytes. A sequential reader of a chunked file has what comes next fetched."""
        entry, repository = content.file(self.tree, number, brought)
        if entry.detail and not brought and self.token is not None:
            start, end = self._readahead.read(number, offset, length, entry.size)
            if start < end:
                self._fetch_ahead(repository, entry, start, end - start)
        return entry, repository, content.parts(self.tree, repository, entry, offset, length, brought)

    def _programs_rest(self, repository: Repository, entry: Entry, offset: int, brought: Brought) -> None:
        """Has the rest of a library or an executable fetched."""
        if entry.detail:
            self._soon(repository, self._programs.touched(self.tree, repository, entry, offset, brought))

    def _trace(self, number: int, parts: list[ChunkSlice], brought: Brought, seconds: float) -> None:
        assert self.trace is not None
        path = self.tree.path_of(number, brought)
        for ref, _, size in parts:
            source = "network" if ref.digest in brought else "cache"
            self.trace.line("read", path, ref.digest, size, source, seconds)

    def _fetch_ahead(self, repository: Repository, entry: Entry, start: int, length: int) -> None:
        try:
            parts = content.parts(self.tree, repository, entry, start, length)
        except (Need, LazyfsError):
            return  # the reader needs the chunk list first, or is about to hear that it is bad
        self._soon(repository, [part.ref for part in parts])

    def _soon(self, repository: Repository, refs: list[ObjectRef]) -> None:
        """Has these fetched with nobody waiting."""
        starter = self.ahead.get(repository.name)
        if refs and starter is not None and self.token is not None:
            self.token.run_sync_soon(_begin, starter.start, refs)

    def _enter(self, repository: str, profile: ObjectRef) -> None:
        """An image with a profile is looked up."""
        starter = self.profiles.get(repository)
        if starter is not None and self.token is not None:
            self.token.run_sync_soon(_begin, starter.start, profile)

    async def switch(self, repository: str, root: ObjectRef, revision: int) -> None:
        """Shows another revision and has the kernel drop what has changed, and only that.

        Returns when the kernel has: from then on nobody sees an old name in a live folder.
        """

        def apply(brought: Brought) -> list[Change]:
            return switch(self.tree, repository, root, revision, brought)

        await self.tell(await self.complete(apply))

    async def tell(self, changes: list[Change]) -> None:
        """Drops what is kept of these, here and in the kernel; returns when it is done."""
        with self.lock:
            self.changed({change.number for change in changes})
        await trio.to_thread.run_sync(self._notify, changes)

    def _notify(self, changes: list[Change]) -> None:
        # Outside the lock: the kernel lets a notification wait for requests on the same folder.
        for number, name in changes:
            if name is None:
                self.session.forget_inode(number)
            else:
                self.session.forget_entry(number, name)

    def fault(self, error: LazyfsError) -> OSError:
        """Counts and logs what a reader will see as EIO."""
        kind = type(error).__name__
        self.counters.faults[kind] = self.counters.faults.get(kind, 0) + 1
        log.warning("EIO: %s: %s", kind, error)
        return OSError(errno.EIO, os.strerror(errno.EIO))

    def bug(self, error: Exception) -> OSError:
        """The same for what should not have come up; call it where the exception is handled."""
        kind = type(error).__name__
        self.counters.faults[kind] = self.counters.faults.get(kind, 0) + 1
        log.exception("EIO")
        return OSError(errno.EIO, os.strerror(errno.EIO))


def _begin(start: Callable[[T], None], what: T) -> None:
    """What escapes from a call that trio is asked for would end its whole run."""
    try:
        start(what)
    except Exception:
        log.exception("fetching ahead")
