"""A change of a repository's tree, from its base revision to the next one."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple

from lazyfs.core import codec
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import NotFound, UsageError
from lazyfs.core.params import Revision
from lazyfs.repository.commit import commit_revision, read_committed
from lazyfs.repository.first_catalogs import first_catalogs
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import LeasedObjects, LeaseLost, PublisherLease
from lazyfs.repository.live_changes import live_changes
from lazyfs.repository.live_tree import LiveTree
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, StoreConflict, StoreError, reader
from lazyfs.store.ingest import Ingest
from lazyfs.store.recent_objects import RecentObjects

log = logging.getLogger(__name__)

REBASES = 5
"""The largest number of times that a commit is repeated because another publisher was first. Each repetition
starts from the newer revision."""

MOST_KEPT = 32 << 20
"""The largest number of bytes of objects that an edit keeps once it has read them. The catalogs that lead to
images have a few hundred kilobytes together, or a few megabytes in a tree of 10,000 images."""


class EditResult(NamedTuple):
    """The outcome of a commit."""

    revision: Revision
    """The revision that has the changes."""
    changed: bool
    """False if the tree had the changes already, so that no revision was made."""


class Edit:
    """Collects changes of the tree and commits them together. Use as a context manager.

    Before the commit, write the objects that a change leads to through `ingest`, or into `objects`. If these
    find an object in the store already, a lease protects it from collections until the edit ends. Changes are
    kept as operations on paths: when another publisher commits first, they are applied to its revision. After
    a commit the edit goes on from the new revision. An exception that leaves the `with` block drops the
    objects that other processes cannot see in the store yet; the committed revision is unchanged. If the
    lease is over, a NotFound is replaced by LeaseLost.

    An edit keeps the objects that it has read and verified, up to MOST_KEPT bytes, and the signed files of
    its base revision, so that it reads them once. It always asks the store for the newest timestamp and root.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        now: Callable[[], datetime],
        *,
        level: int = codec.LEVEL,
        workers: int | None = None,
        lease: PublisherLease | None = None,
    ) -> None:
        """`now`: this machine's clock. `level`: of zstd's compression. `workers`: number of threads that hash
        and compress. `lease`: a lease to use in place of the edit's own; the caller has taken it and ends it.
        Raises as `read_revision`, and as PublisherLease, and UsageError for a repository of an older format
        version."""
        self._store = store
        self._keys = keys
        self._now = now
        self.read = RecentObjects(reader(store), MOST_KEPT)
        self._committed = read_committed(store)
        _check_format(self._committed.revision)
        self._own_lease = lease is None
        if lease is None:
            lease = PublisherLease(store, now, revision=self._committed.revision.number)
            self._committed = read_committed(store, self._committed)  # one that the lease protects
        self._lease = lease
        self._base = self._committed.revision
        self._changes: list[Callable[[LiveTree], object]] = []
        self.objects = LeasedObjects(store, self._lease)
        self.ingest = Ingest(self.objects, self._base.params, level=level, workers=workers)

    def __enter__(self) -> "Edit":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.ingest.__exit__(kind)
            if kind is not None:
                self._abandon()
                if issubclass(kind, NotFound):
                    self._lease.check()  # says why the object is gone, if the lease was over
        finally:
            if self._own_lease:
                self._lease.end_if_possible()

    def kept_alive(self) -> AbstractContextManager[None]:
        """Returns a context in which the lease is renewed, however long its block waits for other things than
        the store."""
        return self._lease.kept_alive()

    def _abandon(self) -> None:
        """Drops what the store does not show yet. If that fails, only warns: the error that ends the edit is
        the one to report."""
        try:
            self._store.abandon()
        except StoreError as error:
            log.warning("temporary files of this publish stay until the next lazyfs gc: %s", error)

    @property
    def base(self) -> Revision:
        """The revision that the changes are made from."""
        return self._base

    @property
    def tree(self) -> StoredTree:
        """The tree of `base`, without the changes."""
        return StoredTree(self.read, self._base.root)

    def put(self, path: str, inode: Inode) -> None:
        """Hangs a link or snapshot at a path; see LiveTree.put, whose errors `commit` raises."""
        self._changes.append(lambda live: live.put(path, inode))

    def hint(self, path: str, catalog: ObjectRef, profile: tuple[bytes, bytes]) -> None:
        """Adds a profile, in the form of an attribute, to the snapshot at a path. `catalog`: the catalog that
        the snapshot must have; see LiveTree.hint, whose errors `commit` raises."""
        self._changes.append(lambda live: live.hint(path, catalog, profile))

    def remove(self, path: str) -> None:
        """Removes a link or snapshot if it exists; see LiveTree.remove."""
        self._changes.append(lambda live: live.remove(path))

    def apply(self, change: Callable[[LiveTree], object]) -> None:
        """Adds a function that changes the tree, such as `removal.remove_images`. `commit` calls it, and
        calls it again each time another publisher commits first."""
        self._changes.append(change)

    def commit(self) -> EditResult:
        """Commits the changes as the next revision, or makes none if the tree has them already.

        Raises StoreConflict if other publishers were first too often or one of them holds the store,
        UsageError for a change that the tree cannot take, StoreError. After an error the committed revision
        is unchanged.
        """
        self.ingest.finish()
        rebases = 0
        while True:
            live = LiveTree(self.tree, self._base.params)
            for change in self._changes:
                change(live)
            root = live.write(self.ingest)
            if root == self._base.root:
                self._changes.clear()
                return EditResult(self._base, changed=False)
            try:
                self._base = commit_revision(
                    self._store,
                    self._keys,
                    root,
                    expected_revision=self._base.number,
                    now=self._now(),
                    changes=live_changes(self.tree, self.tree.below(root)),
                    first_catalogs=first_catalogs(self.tree.below(root)),
                    lease=self._lease,
                    known=self._committed,
                )
                self._changes.clear()
                return EditResult(self._base, changed=True)
            except LeaseLost:
                raise
            except StoreConflict:
                self._committed = read_committed(self._store, self._committed)
                newer = self._committed.revision
                if newer.number == self._base.number or rebases == REBASES:
                    raise
                self._base = newer
                rebases += 1


def _check_format(revision: Revision) -> None:
    if revision.params.is_older:
        raise UsageError(
            f"{revision.name} has format version {revision.params.version}, which this lazyfs reads but does "
            "not write: update its workers, then run `lazyfs repo upgrade STORE`"
        )
