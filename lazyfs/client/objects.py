"""Objects by digest: from the cache, or fetched, verified and admitted; one request for any number of
readers.

Concurrency protocol. The first reader of a missing object starts a *flight*: a task that belongs to no reader
and runs `Downloader.download` in a worker thread. Readers wait for the flight's end, each under its own
deadline and cancellation. A reader that leaves takes only itself away; when the last one has left, the flight
is cancelled, and the thread notices within `guard.SLICE`. A flight is in the table while its task lives, and
for a second after it failed for lack of a path; a reader who comes later starts a new one, which looks into
the cache first. There is no await between looking into the table and entering a flight, so one object never
has two flights in a process; between processes the cache's claims prevent it.
"""

import logging
import random
import time
from collections import deque
from typing import Final, Literal

import trio

from lazyfs.client.bytes_under_way import BytesUnderWay
from lazyfs.client.download import Downloader
from lazyfs.client.local_cache import LocalCache
from lazyfs.client.objects_at_hand import ObjectsAtHand
from lazyfs.core.chain.faults import Outage
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import DeadlineExceeded, LazyfsError, NotFound, TransportError
from lazyfs.transport.fetcher import Fetcher

log = logging.getLogger(__name__)

PATIENCE: Final = 30.0
"""Seconds a read waits for its bytes unless the caller says otherwise."""
THREADS: Final = 32
"""Requests under way at one time, and so connections and worker threads."""
BUNDLE_PATIENCE: Final = 5.0
"""Seconds a reader waits for a bundle under way that holds its object, but half of its patience at most; then
it asks for the object alone."""
UNDER_WAY: Final = 32 << 20
"""Plaintext bytes of objects under way at one time: with its frame and its parts each takes up to three times
its size in memory."""
_AGAIN: Final = 0.5
"""Seconds, and up to as many more by chance, before a held read tries again."""
_LAST_WORDS: Final = 0.5
"""Seconds after its deadline within which every flight has noticed it."""
_ECHO: Final = 1.0
"""Seconds for which a failed flight still answers: the kernel asks for a page again when its read-ahead has
failed, and a reader would otherwise wait for two deadlines."""


class _Flight:
    """One object on its way, and the count of its waiting readers."""

    def __init__(self, ref: ObjectRef, deadline: float) -> None:
        self.ref = ref
        self.patience = deadline - time.monotonic()
        self.deadline = deadline
        self.readers = 0
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.plain: bytes | None = None
        self.error: LazyfsError | None = None
        self.ended_at = 0.0

    def hastier_than(self, patience: float) -> bool:
        """Returns True if the flight gave up sooner than a reader with this patience would."""
        return self.patience < patience - 1

    def over(self) -> bool:
        """Returns True if the flight failed too long ago for its failure to hold still."""
        return self.ended.is_set() and time.monotonic() - self.ended_at > _ECHO


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
    ) -> None:
        """`namespace`: sets its objects in the cache apart, for a repository that needs a credential.
        `on_outage`: with `wait`, reads are held beyond their deadline until they can be answered, like those
        of a hard NFS mount: a failed read of a mapped file kills the program with SIGBUS."""
        super().__init__(cache, namespace)
        self._downloader = Downloader(fetcher, self.cache)
        self._room = BytesUnderWay(UNDER_WAY)
        self._patience = patience
        self._limiter = trio.CapacityLimiter(threads)
        self._flights: dict[Digest, _Flight] = {}
        self.coming: dict[Digest, trio.Event] = {}
        """Objects in bundles under way, each with the event of its bundle's end."""
        self.expected: set[Digest] = set()
        """Objects in bundles that are not yet under way: until then only readers ask for them."""
        self._failed: deque[_Flight] = deque()
        """Failed flights that stay in the table for a moment, oldest first."""
        self._hold = on_outage == "wait"

    @property
    def keeps(self) -> bool:
        """True if the cache admitted the last object it was given."""
        return self._downloader.admitted

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, held: bool = True) -> bytes:
        """Returns the plaintext, verified; admits it to the cache if there is room.

        `deadline` is on time.monotonic()'s clock; by default `patience` seconds from now. Raises
        DeadlineExceeded, another TransportError, or BadData when every copy in reach is bad. With
        `on_outage="wait"` only NotFound and BadData, unless `held` is False; cancel it to stop waiting.
        """
        patience = self._patience if deadline is None else max(deadline - time.monotonic(), 0.0)
        waiting = False
        while True:
            try:
                return await self._fetch(ref, time.monotonic() + patience)
            except NotFound:
                raise
            except TransportError as error:
                if not (self._hold and held):
                    raise
                if not waiting:
                    log.warning("a read is held: %s", error)
                waiting = True
            await trio.sleep(_AGAIN * (1 + random.random()))  # noqa: S311 (jitter)

    async def _fetch(self, ref: ObjectRef, deadline: float) -> bytes:
        patience = max(deadline - time.monotonic(), 0.0)
        bundle = self.coming.get(ref.digest)
        if bundle is not None and ref.digest not in self._flights:
            with trio.move_on_after(min(BUNDLE_PATIENCE, patience / 2)):
                await bundle.wait()
        while True:
            flight = self._flights.get(ref.digest)
            tried = flight is not None and flight.ended.is_set() and flight.hastier_than(patience)
            if flight is None or flight.ref != ref or flight.over() or tried:
                flight = self._start(ref, deadline)
            await self._wait(flight, deadline)
            if flight.plain is not None:
                return flight.plain
            assert flight.error is not None
            # Readers of equal patience fail together; one who joined a hastier flight may try again.
            if not (isinstance(flight.error, DeadlineExceeded) and flight.hastier_than(patience)):
                raise flight.error

    def _start(self, ref: ObjectRef, deadline: float) -> _Flight:
        flight = self._flights[ref.digest] = _Flight(ref, deadline)
        trio.lowlevel.spawn_system_task(self._fly, flight, name=f"fetch {ref.digest.hex()[:12]}")
        return flight

    async def _wait(self, flight: _Flight, deadline: float) -> None:
        # A flight that ends by itself at this deadline has a reason; a cancelled one has none.
        own_end = flight.deadline <= deadline
        left = deadline - time.monotonic() + (_LAST_WORDS if own_end else 0)
        flight.readers += 1
        try:
            with trio.move_on_after(max(left, 0)) as own:
                await flight.ended.wait()
        finally:
            flight.readers -= 1
            if not flight.readers and not flight.ended.is_set():
                self._forget(flight)
                flight.scope.cancel()
        if own.cancelled_caught:
            raise DeadlineExceeded(f"object {flight.ref.digest.hex()}: not here by the deadline")

    async def _fly(self, flight: _Flight) -> None:
        # A system task: an error that escapes would end the whole trio run, so none does.
        error: LazyfsError = TransportError(f"object {flight.ref.digest.hex()}: reading was given up")
        try:
            with flight.scope:
                async with self._room.taken(flight.ref.size):
                    flight.plain = await trio.to_thread.run_sync(
                        self._downloader.download,
                        flight.ref,
                        flight.deadline,
                        trio.from_thread.check_cancelled,
                        limiter=self._limiter,
                    )
        except LazyfsError as failure:
            error = failure
        except trio.Cancelled:
            raise  # the whole run ends
        except Exception as bug:  # noqa: BLE001
            error = TransportError(f"object {flight.ref.digest.hex()}: {type(bug).__name__}: {bug}")
            error.__cause__ = bug
        finally:
            flight.error = error
            flight.ended_at = time.monotonic()
            if self._hold or not isinstance(error, DeadlineExceeded | Outage):
                self._forget(flight)
            else:
                self._failed.append(flight)
            flight.ended.set()
            while self._failed and flight.ended_at - self._failed[0].ended_at > _ECHO:
                self._forget(self._failed.popleft())

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.ref.digest) is flight:
            del self._flights[flight.ref.digest]
