"""The lease of a publisher: while it lives, no collection deletes the objects that the publisher has found in
the store.

A publisher does not store objects again that are there already, and so relies on them before a revision leads
to them. A collection therefore waits for every lease that was taken before its list was known. A publisher
that takes its lease later knows the list. If it needs a listed object, it takes the list back. If deletion
has begun, it waits until the deletion is over and stores the object again.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError, LazyfsError
from lazyfs.repository.collection_state import (
    FILE,
    MOST_LEASES,
    CollectionState,
    Lease,
    ObjectList,
    change_state,
    check_clock,
    read_state,
)
from lazyfs.repository.collector_lease import CollectorLease
from lazyfs.repository.committed import read_revision
from lazyfs.repository.object_lists import delete_listed, read_list
from lazyfs.store import ObjectSink, Store, StoreConflict

log = logging.getLogger(__name__)

LENGTH = 3600.0
"""Seconds after which a lease expires unless it is renewed. A publisher renews its lease as it goes, also
while it waits: a registry holds it up for half an hour at most, a pipe for as long as its writer takes."""
PATIENCE = 600.0
"""Seconds that a publisher waits for the end of a deletion: a million objects take a few minutes."""


class LeaseLost(StoreConflict):
    """This publisher has not renewed its lease in time: objects that it relied on may be gone."""


class PublisherLease:
    """A publisher's lease, and the objects that this publisher may rely on. Thread-safe."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], datetime],
        *,
        length: float = LENGTH,
        token: str | None = None,
        revision: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Takes a lease, or with `token` goes on with one that another process has taken.

        `now`: this machine's clock. `revision`: the number of the committed revision, if the caller has just
        read it. Raises UsageError if this machine's clock is minutes away from the store's, LeaseLost if the
        lease of the token is over, StoreConflict, StoreError.
        """
        self._store = store
        self._length = length
        self._monotonic = monotonic
        self._pause = pause
        self._mutex = threading.RLock()
        self.token = token or secrets.token_hex(16)
        self._revision = read_revision(store).number if revision is None else revision
        check_clock(store, now().timestamp())
        state = self.renew() if token else change_state(store, self._taken, pause)
        self._renewed = monotonic()
        self._listed, self._digests = self._read_listed(state)

    def _taken(self, state: CollectionState) -> CollectionState:
        now = self._store.now()
        lease = Lease(self.token, now, now + self._length, self._revision)
        if len(state.leases) >= MOST_LEASES:
            kept = tuple(other for other in state.leases if other.until >= now)
            state = msgspec.structs.replace(state, leases=kept)
        if len(state.leases) >= MOST_LEASES:
            raise StoreConflict(f"{len(state.leases)} publishers are under way: wait for some to end")
        return state.with_lease(lease)

    def _read_listed(self, state: CollectionState) -> tuple[ObjectList | None, frozenset[Digest]]:
        """Returns the list of condemned or deleted objects that the store has when the lease begins, and its
        objects; None and no objects if there is no such list."""
        known = state.listed
        while known is not None and state.listed is not None and state.lists(known):
            digests = read_list(self._store, state.listed)
            if digests is not None:
                return state.listed, frozenset(digests)
            before, state = state, read_state(self._store)
            if state.listed == before.listed:
                raise FormatError(
                    f"the store lacks metadata/{known.name}, which metadata/{FILE} names: when no publish "
                    f"and no collection is under way, delete metadata/{FILE}"
                )
        return None, frozenset()

    def renew(self) -> CollectionState:
        """Renews the lease for its full length from now on and returns the new state. Raises LeaseLost if the
        lease is over."""

        def renewed(state: CollectionState) -> CollectionState:
            lease, now = self._living(state), self._store.now()
            return state.with_lease(msgspec.structs.replace(lease, until=now + self._length))

        with self._mutex:
            state = change_state(self._store, renewed, self._pause)
            self._renewed = self._monotonic()
            return state

    def keep_alive(self) -> None:
        """Renews the lease if a third of its length has passed. Raises as `renew`."""
        if self._monotonic() - self._renewed > self._length / 3:
            with self._mutex:
                if self._monotonic() - self._renewed > self._length / 3:
                    self.renew()

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renews the lease from another thread for as long as the block takes. For a block that waits for
        other things than the store, such as an archive that comes through a pipe. A lease that is over stays
        over: `rely_on` and `check` say so."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_alive_until, args=[ended], name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _keep_alive_until(self, ended: threading.Event) -> None:
        pause = self._length / 3
        while not ended.wait(pause):
            try:
                self.keep_alive()
                pause = self._length / 3
            except LeaseLost:
                return
            except LazyfsError as error:
                log.warning("the lease of this publisher could not be renewed yet: %s", error)
                pause = self._length / 30

    def check(self) -> None:
        """Raises LeaseLost if the lease is over. To be called within `Store.exclusive`, before a commit."""
        self._living(read_state(self._store))

    def _living(self, state: CollectionState) -> Lease:
        lease = state.lease(self.token)
        if lease is None or lease.until <= self._store.now():
            raise LeaseLost(
                f"this publisher was not heard of for {self._length:.0f} s, and a collection may have "
                "deleted what it relied on: nothing was changed, publish again"
            )
        return lease

    def end(self) -> None:
        """Ends the lease. The objects that it protected must be committed, or no longer be needed."""
        change_state(self._store, lambda state: state.without_lease(self.token), self._pause)

    def end_if_possible(self) -> None:
        """Ends the lease. If that fails, only warns: the lease then expires by itself, and the commit
        stands."""
        try:
            self.end()
        except LazyfsError as error:
            log.warning("the store keeps the lease of this publisher for %.0f s: %s", self._length, error)

    def rely_on(self, digest: Digest) -> None:
        """Makes sure that the publisher may rely on this object: if the store has it when this returns, it
        stays until the lease ends.

        Raises StoreConflict if a collection that is deleting the object does not end in time, and as `renew`.
        """
        self.keep_alive()
        if digest in self._digests:
            with self._mutex:
                if digest in self._digests:
                    self._take_back()

    def _take_back(self) -> None:
        """Withdraws the list of condemned objects that was read when this lease began. If their deletion has
        begun, waits until the collection ends, or finishes it if its collector has died. Raises StoreConflict
        after PATIENCE seconds, and as `renew`."""
        assert self._listed is not None
        mine = self._listed
        end = self._monotonic() + PATIENCE
        while True:
            state = change_state(self._store, lambda state: _without(state, mine), self._pause)
            if state.listed is None or not state.lists(mine):
                self._store.delete_metadata(mine.name)
                self._digests = frozenset()
                return
            if state.collector is None or state.collector.until <= self._store.now():
                self._finish(state.listed)
                continue
            if self._monotonic() > end:
                raise StoreConflict(
                    f"a collection has been deleting {mine.objects} objects for {PATIENCE:.0f} s, among them "
                    "some that this publish needs: wait for it to end, then publish again"
                )
            self.keep_alive()
            self._pause(0.5)

    def _finish(self, listed: ObjectList) -> None:
        """Deletes the remaining objects of a list whose collector has died."""
        try:
            collector = CollectorLease(self._store, monotonic=self._monotonic, pause=self._pause)
        except StoreConflict:
            return  # a new collection has taken over
        try:
            delete_listed(self._store, listed, read_list(self._store, listed) or (), collector)
        finally:
            collector.end_if_possible()


def _without(state: CollectionState, listed: ObjectList) -> CollectionState:
    """Returns the state without this list, or unchanged if the deletion of its objects has begun."""
    if state.listed is None or not state.lists(listed) or state.listed.deleting:
        return state
    return msgspec.structs.replace(state, listed=None)


class LeasedObjects:
    """The objects of a store, for a publisher with a lease: an object that `has` finds stays until the lease
    ends."""

    def __init__(self, store: ObjectSink, lease: PublisherLease) -> None:
        self._store = store
        self._lease = lease

    @property
    def writers(self) -> int:
        """The best number of threads that call `has` and `put` side by side: that of the store."""
        return self._store.writers

    def has(self, digest: Digest) -> bool:
        """Returns True if the object is stored; it then stays until the lease ends. Raises as
        PublisherLease.rely_on."""
        self._lease.rely_on(digest)
        return self._store.has(digest)

    def put(self, digest: Digest, frame: bytes) -> None:
        """Stores a frame under its plaintext's digest, if the object is not there; it then stays until the
        lease ends. Raises as PublisherLease.rely_on."""
        self._lease.rely_on(digest)
        self._store.put(digest, frame)
