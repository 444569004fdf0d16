"""Objects by digest: from the cache, or fetched, verified and admitted; one request for any number of
readers.

Concurrency protocol. The first reader of a missing object starts a *flight*, which belongs to no reader: a
download in the threads of `Downloads`. Readers wait for the flight's end, each under its own deadline and
cancellation. A reader that leaves takes only itself away; when the last one has left, the flight is given up,
and its thread notices within `guard.SLICE`. A table holds each flight until its end, and for a second more if
no path has worked. A reader who comes later starts a new flight, which looks into the cache first. There is
no await between looking into the table and entering a flight, so one object never has two flights in a
process; between processes the cache's claims prevent it.

A thread that has verified an object's bytes shows them to all who look for them (`arrived`), and then has
the cache admit them: a disk delays no reader who waits for the bytes only. One system task, which lives until
the run ends, then ends the threads.
"""

import functools
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import trio

from lazyfs.client.allowance import Allowance
from lazyfs.client.download import Download
from lazyfs.client.downloads import Downloads
from lazyfs.client.flight import ECHO, Flight, failure_of
from lazyfs.client.local_cache import LocalCache
from lazyfs.client.loop_calls import LoopCalls
from lazyfs.client.objects_at_hand import ObjectsAtHand
from lazyfs.client.system_task import begin
from lazyfs.client.under_way import UnderWay
from lazyfs.client.unused_window import UnusedWindow
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import DeadlineExceeded, NotFound, Outage, TransportError
from lazyfs.transport.fetcher import Fetcher

log = logging.getLogger(__name__)

PATIENCE: Final = 30.0
"""Seconds a read waits for its bytes unless the caller says otherwise."""
THREADS: Final = 44
"""The largest number of requests under way at one time, and so of connections and worker threads."""
COPY_PATIENCE: Final = 5.0
"""Seconds a reader waits for a profile, or for a hot pack with a copy of its file, but at most half of its
patience. Then the reader requests the pack of its file."""
UNDER_WAY: Final = 32 << 20
"""The largest number of bytes of objects under way at one time, by the estimates of `StoredSizes`."""
_AGAIN: Final = 0.5
"""Seconds before the retry of a read that is held through an outage (`on_outage`); up to as many more are
added at random."""
_LAST_WORDS: Final = 0.5
"""Further seconds that a reader waits for the error of a flight whose deadline has passed: the flight notices
its deadline within this time."""


class Objects(ObjectsAtHand):
    """A repository's objects, in cache and network. Belongs to one trio run."""

    def __init__(
        self,
        fetcher: Fetcher,
        cache: LocalCache,
        *,
        patience: float = PATIENCE,
        threads: int = THREADS,
        on_outage: Literal["fail", "wait"] = "fail",
        namespace: bytes = b"",
        allowance: Allowance | None = None,
    ) -> None:
        """`namespace`: a part of the cache keys of the repository's objects, if the repository needs a
        credential; otherwise empty. `allowance`: the bound on the bytes under way that all repositories of a
        mount share; None for a repository alone. `on_outage`: with `wait`, a read is held beyond its deadline
        until it can be answered, as on a hard NFS mount: a failed read of a mapped file kills the program
        with SIGBUS."""
        super().__init__(cache, namespace)
        self._downloads = Downloads(fetcher, self.cache, self._arrive, self._leave)
        self.size_of = self._downloads.size_of
        self.expect = self._downloads.expect
        self._under_way: UnderWay[Flight] = UnderWay(threads, UNDER_WAY, self._begin, allowance)
        self._loop: LoopCalls | None = None
        """What threads hand to the trio run. Made by the first fetch: only then is the run known."""
        self._closed = False
        self._open = trio.CancelScope()
        self._patience = patience
        self._flights: dict[Digest, Flight] = {}
        self.loading: dict[trio.Event, Digest] = {}
        """An event for each list of a profile that is being loaded, with the profile's digest. The event is
        set when the loading ends."""
        self.expected: set[Digest] = set()
        """Objects that a profile will bring. Prefetchers leave them to the profile; a reader that needs one
        fetches it at once."""
        self.due: dict[Digest, UnusedWindow] = {}
        """Hot packs that a profile will bring, or is bringing, each with the window that bounds what the
        profile may fetch ahead."""
        self._failed: deque[Flight] = deque()
        """Failed flights that stay in the table of flights for a moment, oldest first."""
        self._hold = on_outage == "wait"

    @property
    def keeps(self) -> bool:
        """True if the cache admitted the last object."""
        return self._downloads.admitted

    async def fetch(
        self,
        ref: ObjectRef,
        *,
        deadline: float | None = None,
        ahead: bool = False,
        optional: bool = False,
        hurried: bool = False,
    ) -> bytes:
        """Returns an object's verified plaintext, and admits it to the cache if there is room.

        `ahead`: True for an object that no reader has asked for. `hurried`: True to return once the bytes are
        here, which is before the cache has admitted them. `deadline` is on time.monotonic()'s clock; by
        default `patience` seconds from now. `optional`: True for an object that only a profile names: a
        server that lacks it is not at fault. Raises DeadlineExceeded, another TransportError, or BadData when
        every copy in reach is bad. With `on_outage="wait"` it waits through all TransportErrors but NotFound
        instead of raising them, unless `ahead` is True; cancel it to stop waiting.
        """
        patience = self._patience if deadline is None else max(deadline - time.monotonic(), 0.0)
        waiting = False
        while True:
            try:
                return await self._fetch(
                    ref, time.monotonic() + patience, ahead=ahead, optional=optional, hurried=hurried
                )
            except NotFound:
                raise
            except TransportError as error:
                if ahead or not self._hold:
                    raise
                if not waiting:
                    log.warning("a read is held: %s", error)
                waiting = True
            await trio.sleep(_AGAIN * (1 + random.random()))  # noqa: S311 (jitter)

    async def _fetch(
        self, ref: ObjectRef, deadline: float, *, ahead: bool, optional: bool, hurried: bool
    ) -> bytes:
        patience = max(deadline - time.monotonic(), 0.0)
        if not ahead:
            self.asked(ref)
        while True:
            flight = self._flights.get(ref.digest)
            tried = flight is not None and flight.ended.is_set() and flight.hastier_than(deadline, patience)
            if flight is None or flight.ref != ref or flight.over() or tried:
                flight = self._start(ref, deadline, optional=optional, ahead=ahead)
            flight.wanted = flight.wanted or not ahead
            await self._wait(flight, deadline, hurried=hurried)
            if flight.plain is not None:
                return flight.plain
            assert flight.failure is not None
            if flight.optional and not optional and isinstance(flight.failure, NotFound):
                continue  # one server lacked it, and no other one was asked
            if not (isinstance(flight.failure, DeadlineExceeded) and flight.hastier_than(deadline, patience)):
                raise flight.failure

    async def fetch_copy(
        self, file: ObjectRef, profile: Digest | None = None, *, deadline: float | None = None
    ) -> dict[Digest, bytes]:
        """Returns a hot pack with a copy of a small file, as {digest: plaintext}, if a profile is bringing
        one. Returns {} if none does, or if it fails, or takes more than half of the time to `deadline`.
        `file`: the file's SHA-256 and size. `profile`: the profile of the reader's image, which is waited for
        while it is being loaded; other profiles are not."""
        now = time.monotonic()
        patience = self._patience if deadline is None else max(deadline - now, 0.0)
        until = now + min(COPY_PATIENCE, patience / 2)
        with trio.move_on_after(until - now):
            for loaded, loading in list(self.loading.items()):
                if loading == profile:
                    await loaded.wait()
        for pack in self.hot.packs(file):
            window = self.due.get(pack.digest)
            plain = self.cache.get(pack.digest) if window is None else await self._due(pack, window, until)
            if plain is not None and len(plain) == pack.size:
                return {pack.digest: plain}
        return {}

    def is_awaited(self, ref: ObjectRef) -> bool:
        """Returns True if an object is on its way and a reader has asked for it."""
        flight = self._flights.get(ref.digest)
        return flight is not None and flight.ref == ref and flight.wanted and not flight.ended.is_set()

    def is_due(self, file: ObjectRef) -> bool:
        """Returns True if a profile is bringing a copy of a small file. Returns False while the profile's
        bound on unused bytes stops its fetches."""
        windows = [self.due.get(pack.digest) for pack in self.hot.packs(file)]
        return any(window is not None and not window.exhausted for window in windows)

    async def _due(self, pack: ObjectRef, window: UnusedWindow, until: float) -> bytes | None:
        flight = self._flights.get(pack.digest)
        try:
            if flight is None or flight.ref != pack or flight.ended.is_set():
                plain = self.cache.get(pack.digest)
                if plain is not None or not window.has_room(pack.size):
                    return plain
                window.begin(pack)
                self.count_ahead(pack.digest, window)
                flight = self._start(pack, time.monotonic() + self._patience, optional=True, ahead=True)
            await self._wait(flight, until, hurried=True)
        except TransportError:
            return None
        if flight.plain is None:
            self.due.pop(pack.digest, None)
        return flight.plain

    def bring(self, ref: ObjectRef, ended: Callable[[], None], *, optional: bool = False) -> bool:
        """Brings an object into the cache without a task that waits for it: joins the object's flight, or
        starts one. Returns at once. `ended` is called when the object is here or has failed, and must not
        raise. `optional`: True for an object that only a profile names. Returns False if the trio run is
        ending."""
        flight = self._flights.get(ref.digest)
        if flight is None or flight.ref != ref or flight.ended.is_set():
            try:
                flight = self._start(ref, time.monotonic() + self._patience, optional=optional, ahead=True)
            except TransportError:
                return False
        flight.readers += 1
        flight.told.append(ended)
        return True

    def _start(self, ref: ObjectRef, deadline: float, *, optional: bool, ahead: bool) -> Flight:
        if self._loop is None:
            self._belong()
        if self._closed:
            raise TransportError(f"object {ref.digest.hex()}: its repository is closed")
        flight = Flight(ref, deadline, self.size_of(ref), optional=optional, ahead=ahead)
        self._flights[ref.digest] = flight
        self._under_way.enter(flight, flight.size)
        return flight

    def _begin(self, flight: Flight, _: int) -> None:
        self._downloads.begin(flight)

    async def _wait(self, flight: Flight, deadline: float, *, hurried: bool) -> None:
        # A flight that ends by itself at this deadline has a reason; a cancelled one has none.
        own_end = flight.deadline <= deadline
        left = deadline - time.monotonic() + (_LAST_WORDS if own_end else 0)
        flight.readers += 1
        flight.hurried += hurried
        try:
            if hurried and flight.plain is not None:
                return  # it came before this reader was counted: nobody sets `here` for him alone
            with trio.move_on_after(max(left, 0)) as own:
                await (flight.here if hurried else flight.ended).wait()
        finally:
            flight.readers -= 1
            flight.hurried -= hurried
            if not flight.readers and flight.plain is None and not flight.here.is_set():
                self._forget(flight)
                self._give_up(flight)
        if own.cancelled_caught:
            raise DeadlineExceeded(f"object {flight.ref.digest.hex()}: not here by the deadline")

    def _give_up(self, flight: Flight) -> None:
        flight.given_up = True
        if self._under_way.withdraw(flight):
            self._end(flight)

    def _arrive(self, downloads: list[Download]) -> None:
        """Shows objects that have arrived, and has those told who wait for them only. Called in any
        thread."""
        assert self._loop is not None
        for flight in downloads:
            assert isinstance(flight, Flight)
            assert flight.plain is not None
            self.arrived[flight.ref.digest] = flight.plain
            if flight.hurried:  # who begins to wait only now is told at the flight's end
                self._loop.soon(flight.here.set)

    def _leave(self, downloads: list[Download]) -> None:
        """Takes ended downloads, whose objects the cache has now if it admits them. Called in any thread."""
        assert self._loop is not None
        for download in downloads:
            self.arrived.pop(download.ref.digest, None)
            self._loop.soon(functools.partial(self._end_begun, download))

    def _end_begun(self, flight: Download) -> None:
        assert isinstance(flight, Flight)
        self._end(flight)
        self._under_way.ended(flight.size)

    def _end(self, flight: Flight) -> None:
        flight.failure = failure_of(flight)
        flight.ended_at = time.monotonic()
        if self._hold or not isinstance(flight.failure, DeadlineExceeded | Outage):
            self._forget(flight)
        else:
            self._failed.append(flight)
        flight.here.set()
        flight.ended.set()
        for tell in flight.told:
            tell()
        while self._failed and flight.ended_at - self._failed[0].ended_at > ECHO:
            self._forget(self._failed.popleft())

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.ref.digest) is flight:
            del self._flights[flight.ref.digest]

    # the run

    def _belong(self) -> None:
        self._loop = LoopCalls()
        if not begin(self._end_with_the_run, name="downloads"):
            self._closed = True

    def close(self) -> None:
        """Gives up the downloads under way and tells the threads to end; a later fetch fails."""
        self._closed = True
        self._open.cancel()

    async def _end_with_the_run(self) -> None:
        try:
            with self._open:
                await trio.sleep_forever()
        finally:
            self._closed = True
            waiting = self._under_way.drain()
            for flight in [*self._flights.values(), *waiting]:
                flight.given_up = True
            for flight in waiting:
                self._end(flight)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._downloads.close)
