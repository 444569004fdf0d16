"""Copies a repository into another store, and keeps the copy at the newest revision.

Order. An object is put after everything that it leads to, and the signed files after all objects, the
timestamp last. So if the copy has a catalog, it has everything below that catalog. A run can therefore
continue where a killed run stopped. It reads only the catalogs that changed, because the copy has everything
that the old catalog at the same path names. While a deletion is under way (mirror_removal), only the catalogs
of the copy's last revision are known to have everything below them, and a run reads all others again.

Everything is verified before it is stored: signed files against the copy's own first root, objects against
their digests. The copy has the repository's signatures; nobody publishes into it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from lazyfs.core import codec
from lazyfs.core.collected_profiles import CollectedProfile
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError, TrustError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.reach import ObjectKind, Reached, catalog_at, history_at, leads_to
from lazyfs.core.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, file_name
from lazyfs.repository.committed import CommittedRevision, read_committed
from lazyfs.repository.mirror_removal import MirrorReport, delete_unkept, deletion_under_way
from lazyfs.repository.mirrored_profiles import Copying, copy_profiles
from lazyfs.store import ReadableStore, Store, StoreError, reader

WORKERS = 16
"""The largest number of objects that are copied at the same time."""


@dataclass
class _Open:
    """An object whose descendants are being copied; it is put once the copy has all of them."""

    found: Reached
    stored: bytes
    below: Iterator[Reached]
    old: dict[bytes, Reached]
    """Maps a path to the catalog that the copy's last revision has there."""
    before: set[ObjectRef]
    """The objects that the copy's last revision names instead of this object's descendants: the copy
    has them already."""


class Mirror:
    """One run that updates a copy."""

    def __init__(
        self,
        source: ReadableStore,
        target: Store,
        *,
        bytes_per_second: float | None = None,
        workers: int = WORKERS,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
        advance: Callable[[MirrorReport], None] = lambda _report: None,
    ) -> None:
        """`bytes_per_second`: limit for the average rate at which objects are copied; None: no limit."""
        self._source = source
        self._target = target
        self._limit = bytes_per_second
        self._monotonic = monotonic
        self._pause = pause
        self._began = monotonic()
        self._advance = advance
        self._workers = workers
        self._mutex = threading.Lock()
        self._copied: set[Digest] = set()
        self._deleting = False
        """True if a deletion was under way when the run began."""
        self.report = MirrorReport()

    def run(self) -> MirrorReport:
        """Brings the copy to the newest revision, deletes the objects that no kept revision needs, and
        returns the report. Raises TrustError if the source has another repository than the copy, or has an
        older revision than the copy; BadData, NotFound, TransportError, StoreError. After an error the copy
        keeps its revision."""
        newest = read_committed(self._source)
        last = self._last(newest)
        self._deleting = deletion_under_way(self._target)
        revision = newest.revision
        self.report.revision = revision.number
        if last is None or last.proven.timestamp_bytes != newest.proven.timestamp_bytes:
            try:
                self._objects(revision, last.revision if last else None)
                self._target.sync()
                self._signed(newest, last)
            except LazyfsError:
                with suppress(StoreError):  # the first error is the one to report
                    self._target.abandon()
                if last:  # an object that cannot be had keeps nothing from leaving
                    self._delete_unkept(last.revision)
                raise
            self.report.changed = True
        with ThreadPoolExecutor(self._workers, "mirror") as pool:
            self._profiles(newest, pool)
        self._delete_unkept(revision)
        return self.report

    def _delete_unkept(self, revision: Revision) -> None:
        delete_unkept(self._target, revision, self.report, under_way=self._deleting)

    def _last(self, newest: CommittedRevision) -> CommittedRevision | None:
        """Returns the copy's committed revision, None if it has none. Raises TrustError if `newest` cannot
        follow it."""
        if self._target.read_metadata(file_name(ROOT, 1)) is None:
            return None
        if self._target.read_metadata(file_name(TIMESTAMP, 0)) is None:
            self._check_root(newest)
            return None
        last = read_committed(self._target)
        self._check_root(newest)
        if newest.state.root.version < last.state.root.version:
            raise TrustError("the copy knows newer keys than the repository: somebody shows an old state")
        ours, theirs = last.proven, newest.proven
        if theirs.timestamp.version < ours.timestamp.version or newest.revision.number < last.revision.number:
            raise TrustError(
                f"the copy has revision {last.revision.number} and a newer timestamp than the repository, "
                f"which shows revision {newest.revision.number}: somebody shows an old state"
            )
        return last

    def _check_root(self, newest: CommittedRevision) -> None:
        mine = self._target.read_metadata(file_name(ROOT, 1))
        if mine != newest.state.root_bytes[0]:
            raise TrustError("the copy is one of another repository: its first root differs")

    def _objects(self, revision: Revision, last: Revision | None) -> None:
        with ThreadPoolExecutor(self._workers, "mirror") as pool:
            old = catalog_at(last.root) if last else None
            self._copy(catalog_at(revision.root), old, pool)
            if revision.history:
                past = history_at(last.history) if last and last.history else None
                self._copy(history_at(revision.history), past, pool)

    def _profiles(
        self,
        newest: CommittedRevision,
        pool: ThreadPoolExecutor,
        wanted: Callable[[CollectedProfile], bool] = lambda _: True,
    ) -> None:
        """Copies the list of collected profiles, and those of its profiles that are `wanted`."""

        def below(start: Reached) -> None:
            if not self._is_whole(start):
                self._copy(start, None, pool)

        publisher, copying = newest.proven.targets, Copying(below, self._leaf)
        self.report.problems += copy_profiles(self._source, self._target, publisher, copying, wanted)

    def _copy(self, start: Reached, old: Reached | None, pool: ThreadPoolExecutor) -> None:
        """Copies an object and everything below it. `old`: the object that the copy's last revision has
        instead of it."""
        if old is not None and start.ref == old.ref:
            return
        waiting: list[Future[None]] = []
        stack = [self._opened(start, old)]
        while stack:
            top = stack[-1]
            found = next(top.below, None)
            if found is None:
                settle(waiting)
                self._target.sync()
                self._put(top.found, top.stored)
                stack.pop()
            elif found.ref not in top.before and found.ref.digest not in self._copied:
                if found.leads_on:
                    if not self._is_whole(found):
                        stack.append(self._opened(found, top.old.get(found.path)))
                else:
                    self._copied.add(found.ref.digest)
                    waiting.append(pool.submit(self._leaf, found))
                    if len(waiting) > 4 * self._workers:
                        settle(waiting)

    def _is_whole(self, found: Reached) -> bool:
        """Returns True if the copy has an object and everything that the object leads to."""
        return not self._deleting and self._target.has(found.ref.digest)

    def _opened(self, found: Reached, old: Reached | None) -> _Open:
        stored = self._source.get(found.ref.digest)
        plain = codec.open_object(stored, found.ref)
        before: list[Reached] = []
        if old is not None and old.kind == found.kind:
            before = list(leads_to(old, reader(self._target)(old.ref), profiles=True))
        catalogs = {one.path: one for one in before if one.kind == ObjectKind.CATALOG}
        below = leads_to(found, plain, profiles=True)
        return _Open(found, stored, below, catalogs, {one.ref for one in before})

    def _leaf(self, found: Reached) -> None:
        if self._target.has(found.ref.digest):
            return
        stored = self._source.get(found.ref.digest)
        codec.open_object(stored, found.ref)
        self._put(found, stored)

    def _put(self, found: Reached, stored: bytes) -> None:
        self._target.put(found.ref.digest, stored)
        with self._mutex:
            self._copied.add(found.ref.digest)
            self.report.objects += 1
            self.report.bytes += len(stored)
            self._advance(self.report)
        if self._limit:
            ahead = self.report.bytes / self._limit - (self._monotonic() - self._began)
            if ahead > 0:
                self._pause(ahead)

    def _signed(self, newest: CommittedRevision, last: CommittedRevision | None) -> None:
        """Writes the signed files, the timestamp last."""
        for version, data in enumerate(newest.state.root_bytes, 1):
            self._once(file_name(ROOT, version), data)
        proven = newest.proven
        self._once(file_name(TARGETS, proven.targets.version), proven.targets_bytes)
        self._once(file_name(SNAPSHOT, proven.snapshot.version), proven.snapshot_bytes)
        self._target.sync()
        before = last.proven.timestamp_bytes if last else None
        with self._target.exclusive():
            self._target.write_metadata(file_name(TIMESTAMP, 0), proven.timestamp_bytes, expected=before)

    def _once(self, name: str, data: bytes) -> None:
        there = self._target.read_metadata(name)
        if there is None:
            self._target.write_metadata(name, data, expected=None)
        elif there != data:
            raise UsageError(
                f"the copy has another metadata/{name} than the repository: somebody has published into it; "
                "mirror into an empty store"
            )


def settle(waiting: "list[Future[None]]") -> None:
    """Waits for all futures and empties the list. Raises the first exception that a future has raised."""
    for future in waiting:
        future.result()
    waiting.clear()
