"""Garbage collection: deletes the objects that no kept revision leads to, while publishers and readers go on.
A publisher is under way while it holds a lease.

Steps, each of which a killed collector can leave to the next one:

1. Mark the objects that the kept revisions lead to, and those of collected profiles. A missing or unreadable
   object ends the collection here: the objects that it led to are unknown, and a folder that was moved away
   may come back. Only an operator who knows that the object is lost may let the collection go on.
2. Condemn: list the unmarked objects that are older than every publisher under way, and commit the list by
   a conditional write. Publishers that start from now on know the list.
3. Wait for the publishers under way at that moment, whose commits may lead to condemned objects.
4. Mark the revisions that came meanwhile, and commit the list of deletions: the condemned objects that are
   still unmarked. Until this commit, a publisher that needs a condemned object takes the list back; after it,
   such a publisher waits for step 5.
5. Delete the listed objects.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from lazyfs.core.digest import Digest
from lazyfs.core.errors import NotFound
from lazyfs.repository.collect_report import CollectObserver, CollectReport
from lazyfs.repository.collection_state import (
    CollectionState,
    Lease,
    ObjectList,
    change_state,
    check_clock,
    read_state,
)
from lazyfs.repository.collector_lease import CollectorLease, CollectorLost
from lazyfs.repository.commit import read_committed
from lazyfs.repository.delegation import objects_of_list
from lazyfs.repository.kept_revisions import kept_revisions
from lazyfs.repository.keys import Keys
from lazyfs.repository.lifecycle import resign
from lazyfs.repository.marking import Marked
from lazyfs.repository.object_lists import delete_listed, forget_list, read_list, write_final, write_list
from lazyfs.repository.old_metadata import delete_old_metadata
from lazyfs.store import Store, StoreError

ROUNDS = 5
"""The largest number of lists that one collection works through. It needs more than one if a publisher takes
a list back, or if a full store has room only for a short list."""
MOST_LISTED = 1 << 20
FEW_LISTED = 1 << 14
"""The largest number of objects in a list (0.5 MiB) if the store has no room for a list of MOST_LISTED
objects (32 MiB)."""
MARGIN = 2.0
"""Seconds by which the times of a listing may be inexact."""
LEFT = 600.0
"""Seconds by which a temporary file, never renamed to its final name, must be older than every publisher
under way before it is deleted as left behind."""
POLL = 2.0


class _Incomplete(Exception):
    """Ends a collection, because an object that a kept revision leads to is missing."""


class _TakenBack(Exception):
    """Abandons a change of the collection's state, because another process has changed the list."""


class Collector:
    """One run of a collection."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        now: Callable[[], datetime],
        *,
        wait: float,
        despite_missing: bool = False,
        observer: CollectObserver | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`keys`: must have the timestamp's key: a new timestamp keeps publishers whose leases have expired
        from committing late. `now`: this machine's clock. `wait`: seconds to wait for publishers under way.
        `despite_missing`: go on although objects are missing, and give up the objects that they led to."""
        self._store = store
        self._keys = keys
        self._now = now
        self._wait = wait
        self._despite_missing = despite_missing
        self._observer = observer or CollectObserver()
        self._monotonic = monotonic
        self._pause = pause
        self._report = CollectReport()
        self._lease: CollectorLease | None = None
        self._marked = Marked(store, self._advance)
        self._kept: set[int] = set()
        """Numbers of all revisions that this run has marked."""

    def dry_run(self) -> CollectReport:
        """Returns the report of a collection that would run now; writes nothing. Raises as `run`."""
        check_clock(self._store, self._now().timestamp())
        try:
            self._mark()
            self._list()
            self._report.waiting_for = len(self._living(read_state(self._store)))
        except _Incomplete:
            self._report.stopped = True
        return self._finished()

    def run(self) -> CollectReport:
        """Collects garbage and returns the report. Deletes only after all kept revisions have been marked. If
        an object that they lead to is missing and `despite_missing` is not set, deletes nothing; the report
        says so. Raises StoreConflict if another collection is under way, UsageError if this machine's clock
        and the store's differ or the timestamp's key is missing, StoreError, BadData."""
        check_clock(self._store, self._now().timestamp())
        with self._store.spare():
            self._lease = CollectorLease(self._store, monotonic=self._monotonic, pause=self._pause)
            try:
                self._mark()
                for _ in range(ROUNDS):
                    if not self._round():
                        break
                state = read_state(self._store)
                self._report.old_metadata = delete_old_metadata(self._store, self._kept, state)
                self._report.left_bytes = self._store.delete_unnamed(self._horizon(state) - LEFT)
            except _Incomplete:
                self._report.stopped = True
            finally:
                self._lease.end_if_possible()
        return self._finished()

    def _round(self) -> bool:
        """Deletes the objects of one list. Returns False if there is nothing more to do now."""
        state = read_state(self._store)
        condemned = state.listed or self._condemn()
        if condemned is None:
            return False
        whole = state.listed is None and condemned.objects == self._report.garbage
        digests = read_list(self._store, condemned)
        if digests is None:
            forget_list(self._store, condemned)
            return True
        if not condemned.deleting:
            if not self._wait_for(condemned):
                return False
            final = self._decide(condemned, digests)
            if final is None:
                return True
            condemned = final
        left = [digest for digest in digests if digest not in self._marked.reached]
        assert self._lease is not None
        if not delete_listed(self._store, condemned, left, self._lease, self._deleted):
            raise CollectorLost("another collection has taken over: run this again")
        return not whole

    def _mark(self) -> None:
        """Marks all objects to which the kept revisions lead by now. Raises _Incomplete if one is missing,
        unless `despite_missing` is set."""
        newest = read_committed(self._store).revision
        while True:
            living = self._living(read_state(self._store))
            before, newest = newest, read_committed(self._store).revision
            # A publisher that has come and gone between the two looks has committed: its revision is newer.
            if newest.number == before.number:
                break
        under_way = min((lease.revision for lease in living), default=None)
        try:
            kept = kept_revisions(self._store, newest, self._store.now(), under_way)
        except NotFound as error:
            raise NotFound(
                f"{error}: it is part of the history, which says what is kept, so nothing is collected: see "
                "lazyfs check"
            ) from error
        self._marked.mark(kept)
        self._marked.mark_objects(objects_of_list(self._store))
        self._report.repository, self._report.revision = newest.name, newest.number
        self._report.kept = [revision.past.number for revision in kept]
        self._kept.update(self._report.kept)
        if self._marked.missing and not self._despite_missing:
            raise _Incomplete

    def _list(self) -> list[Digest]:
        """Returns up to MOST_LISTED unmarked objects to condemn. The report counts all such objects."""
        horizon = self._horizon(read_state(self._store))
        found: list[Digest] = []
        self._report.garbage = self._report.garbage_bytes = 0
        for stored in self._store.objects():
            self._advance(len(self._marked.reached))
            if stored.modified < horizon and stored.digest not in self._marked.reached:
                self._report.garbage += 1
                self._report.garbage_bytes += stored.size
                if len(found) < MOST_LISTED:
                    found.append(stored.digest)
        return found

    def _horizon(self, state: CollectionState) -> float:
        """Returns a time on the store's clock before which no publisher under way has written an object."""
        now = self._store.now()
        return min([now, *(lease.since for lease in self._living(state))]) - MARGIN

    def _living(self, state: CollectionState) -> list[Lease]:
        now = self._store.now()
        return [lease for lease in state.leases if lease.until > now]

    def _condemn(self) -> ObjectList | None:
        digests = self._list()
        if not digests:
            return None
        try:
            listed = write_list(self._store, digests)
        except StoreError:
            if len(digests) <= FEW_LISTED:
                raise
            listed = write_list(self._store, digests[:FEW_LISTED])

        def condemn(state: CollectionState) -> CollectionState:
            waits_for = tuple(lease.token for lease in state.leases)
            mine = msgspec.structs.replace(listed, waits_for=waits_for)
            return msgspec.structs.replace(state, listed=mine)

        return change_state(self._store, condemn, self._pause).listed

    def _wait_for(self, condemned: ObjectList) -> bool:
        """Waits until every publisher that may rely on condemned objects has ended or lost its lease. Returns
        False if `wait` seconds pass before."""
        end = self._monotonic() + self._wait
        while True:
            state = read_state(self._store)
            living = [lease for lease in self._living(state) if lease.token in condemned.waits_for]
            self._report.waiting_for = len(living)
            if not living:
                break
            if self._monotonic() >= end:
                return False
            self._observer.waiting(len(living))
            self._advance(len(self._marked.reached))
            self._pause(min(POLL, max(end - self._monotonic(), 0.01)))
        dead = [lease.token for lease in state.leases if lease.token in condemned.waits_for]
        if dead:
            self._keep_out(dead)
        return True

    def _keep_out(self, dead: list[str]) -> None:
        """Makes sure that publishers whose leases have expired commit nothing when they wake up. `dead`: the
        tokens of these leases. Signs a new timestamp, because a commit replaces only the timestamp that it
        has read. Then removes the leases; if this collector is killed before, the next one still finds
        them."""
        now = self._now()
        left = (read_committed(self._store).proven.timestamp.expires - now) / timedelta(days=1)
        resign(self._store, self._keys, now, left)

        def without(state: CollectionState) -> CollectionState:
            for token in dead:
                state = state.without_lease(token)
            return state

        change_state(self._store, without, self._pause)

    def _decide(self, condemned: ObjectList, digests: list[Digest]) -> ObjectList | None:
        """Marks again, then commits and returns the final list: the condemned objects that no kept revision
        leads to. Returns None if a publisher has taken the condemned list back, or if nothing is left to
        delete."""
        self._mark()
        left = [digest for digest in digests if digest not in self._marked.reached]
        if not left:
            forget_list(self._store, condemned)
            return None
        final = write_final(self._store, condemned, left)

        def decide(state: CollectionState) -> CollectionState:
            if state.listed != condemned:
                raise _TakenBack
            return msgspec.structs.replace(state, listed=final)

        try:
            change_state(self._store, decide, self._pause)
        except _TakenBack:
            self._store.delete_metadata(final.name)
            return None
        self._store.delete_metadata(condemned.name)
        return final

    def _advance(self, objects: int) -> None:
        if self._lease:
            self._lease.keep_alive()
        self._observer.marked(objects)

    def _deleted(self, objects: int) -> None:
        self._report.deleted += objects
        self._observer.deleted(objects)

    def _finished(self) -> CollectReport:
        self._report.reachable = len(self._marked.reached)
        self._report.mostly_dead = self._marked.mostly_dead()
        self._report.missing = self._marked.missing
        self._report.problems = self._marked.problems
        return self._report
