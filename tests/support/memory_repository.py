"""A repository in memory on a clock that the test controls, with images to publish. Publishers can be killed
between any two operations of the store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from lazyfs.core import codec
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.params import Params, Revision
from lazyfs.core.reach import Reached, catalog_at, history_at, walk
from lazyfs.images.publisher import PublishOptions, PublishReport, publish
from lazyfs.images.sources.open import ImageOptions
from lazyfs.repository import lifecycle
from lazyfs.repository.collect import Collector
from lazyfs.repository.collect_report import CollectReport
from lazyfs.repository.commit import read_revision
from lazyfs.repository.edit import Edit, EditResult
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.store import Store
from lazyfs.store.check import check
from tests.support.memory_store import Bucket, MemoryStore, unwatched

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0
OPTIONS = PublishOptions(ImageOptions(Platform("linux", "amd64")), workers=1)


@cache
def signers() -> tuple[CryptoSigner, CryptoSigner, CryptoSigner]:
    """Returns the keys of root, publisher and timestamp. They are made once, since that takes longer than a
    test's steps."""
    return tuple(CryptoSigner.generate_ed25519() for _ in range(3))  # type: ignore[return-value]


class Killed(BaseException):
    """Stands for SIGKILL between two operations of the store."""


class Life:
    """Allows a process `operations` operations, and raises Killed at every later one. If `operations` is
    None, allows any number."""

    def __init__(self, operations: int | None) -> None:
        self.left = operations

    def __call__(self, _operation: str) -> None:
        if self.left is None:
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1


class MemoryRepository:
    """A repository in an in-memory bucket of its own."""

    def __init__(self, keep_days: int = 2) -> None:
        self.time = START.timestamp()
        self.bucket = Bucket(lambda: self.time)
        root, publisher, stamper = signers()
        self.keys = Keys([publisher, stamper])
        new = Revision(
            "test.example.org", 1, int(self.time), ObjectRef(Digest(b""), 0), Params(keep_days=keep_days)
        )
        lifecycle.begin(self.store(), new, [root], 1, publisher, stamper, self.now(), 3650)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def store(self, before: Callable[[str], None] = unwatched) -> MemoryStore:
        return MemoryStore(self.bucket, before)

    def lease(self, store: Store, now: Callable[[], datetime] | None = None) -> PublisherLease:
        """Takes a lease. When the lease waits, the repository's clock moves forward instead."""
        return PublisherLease(store, now or self.now, monotonic=lambda: self.time, pause=self.pass_time)

    @contextmanager
    def leased(self, store: Store) -> Iterator[PublisherLease]:
        """Yields a lease for the block. Gives it back at the end, unless the publisher was killed."""
        lease = self.lease(store)
        try:
            yield lease
        finally:
            lease.end_if_possible()

    def edit(self, store: Store, change: Callable[[Edit], object]) -> EditResult:
        """Applies one change to the tree and commits it."""
        with self.leased(store) as lease, Edit(store, self.keys, self.now, lease=lease) as edit:
            change(edit)
            return edit.commit()

    def publish(self, layout: Path, place: str, store: Store | None = None) -> PublishReport:
        """Publishes an image of a layout, with its start-up files."""
        store = store or self.store()
        with self.leased(store) as lease:
            return publish(
                store, self.keys, [f"oci:{layout}"], replace(OPTIONS, place=place), self.now, lease
            )

    def collector(
        self, store: Store | None = None, wait: float = 7200, *, despite_missing: bool = False
    ) -> Collector:
        return Collector(
            store or self.store(),
            self.keys,
            self.now,
            wait=wait,
            despite_missing=despite_missing,
            monotonic=lambda: self.time,
            pause=lambda seconds: self.pass_time(max(seconds, 30)),
        )

    def collect(self, store: Store | None = None, wait: float = 7200) -> CollectReport:
        return self.collector(store, wait).run()

    def newest(self) -> Revision:
        return read_revision(self.store())

    def problems(self, root: ObjectRef) -> list[str]:
        """Returns the findings of `lazyfs check` on a revision."""
        return check(self.store(), root).problems

    def objects(self) -> set[Digest]:
        return set(self.bucket.objects)

    def reachable(self, roots: list[ObjectRef], heads: list[ObjectRef]) -> set[Digest]:
        """Returns all objects that these catalogs and history heads lead to."""
        return {found.ref.digest for found in self._walk([*map(catalog_at, roots), *map(history_at, heads)])}

    def _walk(self, starts: list[Reached]) -> Iterator[Reached]:
        store = self.store()
        return walk(starts, lambda ref: codec.open_object(store.get(ref.digest), ref), profiles=True)
