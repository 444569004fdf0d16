"""Rollback: a new revision with the content of an older one, so that no client sees a step back."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.history.records import Change
from lazyfs.core.params import Revision
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.repository.first_catalogs import first_catalogs
from lazyfs.repository.history import check_whole, find_past
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.live_changes import live_changes
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, reader


class Rollback(NamedTuple):
    """A rollback's outcome."""

    restored: int
    """Number of the revision whose content is shown again."""
    revision: Revision
    """The newest revision now."""
    changes: list[Change]
    """The changes from the revision before. If the content is the same, there are none, and no revision was
    made."""


def roll_back(
    store: Store, keys: Keys, wanted: str, now: Callable[[], datetime], *, dry_run: bool = False
) -> Rollback:
    """Commits a new revision with the content of an older one, unless the newest has the same content.

    `wanted`: the older revision's number, date or name. `dry_run`: only find out what would change. Raises
    UsageError if objects of the older revision are missing or it has another format version; StoreConflict if
    another publisher commits first.
    """
    lease = PublisherLease(store, now)
    try:
        newest = read_revision(store)
        past = find_past(store, newest, wanted)
        if past.version != newest.params.version:
            raise UsageError(
                f"revision {past.number} has format version {past.version}, the repository "
                f"{newest.params.version}: it cannot be the newest one again"
            )
        check_whole(store, lease, past, newest)
        changes = live_changes(StoredTree(reader(store), newest.root), StoredTree(reader(store), past.root))
        if dry_run or past.root == newest.root:
            return Rollback(past.number, newest, changes)
        revision = commit_revision(
            store,
            keys,
            past.root,
            expected_revision=newest.number,
            now=now(),
            changes=changes,
            restored=past.number,
            first_catalogs=first_catalogs(StoredTree(reader(store), past.root)),
            lease=lease,
        )
        return Rollback(past.number, revision, changes)
    finally:
        lease.end_if_possible()
