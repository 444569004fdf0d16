"""Finds, lists and names the revisions of a repository in its store."""

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.history.choice import as_revision, check_name, choose, parse_choice
from lazyfs.core.history.head import History
from lazyfs.core.history.records import MAX_NAMES, KeptName, PastRevision
from lazyfs.core.params import Revision
from lazyfs.core.reach import Seen, catalog_at, leads_to
from lazyfs.repository.commit import read_revision, replace_revision
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import LeasedObjects, PublisherLease
from lazyfs.repository.stored_history import read_history, write_history
from lazyfs.store import ReadableStore, Store, reader


def revisions(store: ReadableStore) -> Iterator[PastRevision]:
    """Yields the committed revision, then older ones, newest first. Raises as `read_committed`."""
    newest = read_revision(store)
    yield from read_history(store, newest).newest_first(reader(store))


def find_revision(store: Store, text: str) -> Revision:
    """Returns the revision that a number, a date or a name means. Raises UsageError if there is none."""
    newest = read_revision(store)
    return as_revision(find_past(store, newest, text), newest)


def find_past(store: Store, newest: Revision, text: str) -> PastRevision:
    """Returns the history's entry of the revision that a number, a date or a name means. `newest`: the
    revision whose history is searched. Raises UsageError if there is none."""
    return choose(read_history(store, newest), parse_choice(text), reader(store))


def keep(
    store: Store, keys: Keys, name: str, wanted: str | None, now: Callable[[], datetime]
) -> PastRevision:
    """Puts `name` on a revision, which is then kept until the name is released. `wanted`: the revision's
    number, date or present name; None for the newest revision. If the name is in use, it moves to this
    revision. The tree and number of the newest revision do not change.

    Raises UsageError if objects of the revision are missing from the store, or if there are too many names.
    """
    check_name(name)
    lease = PublisherLease(store, now)
    try:
        newest = read_revision(store)
        past = find_past(store, newest, wanted or str(newest.number))
        check_whole(store, lease, past, newest)
        given = KeptName(name, past.number, int(now().timestamp()))

        def named(history: History) -> History:
            changed = history.named(given)
            if len(changed.names) > MAX_NAMES:
                raise UsageError(f"{MAX_NAMES} revisions have names already: release one")
            return changed

        _amend(store, keys, named, now, lease)
        return past
    finally:
        lease.end_if_possible()


def release(store: Store, keys: Keys, name: str, now: Callable[[], datetime]) -> None:
    """Removes a name: its revision is then kept only as long as any other. Raises UsageError if there is no
    such name."""
    lease = PublisherLease(store, now)

    def released(history: History) -> History:
        if all(kept.name != name for kept in history.names):
            names = ", ".join(kept.name for kept in history.names) or "none"
            raise UsageError(f"no revision is kept as {name}; kept ones: {names}")
        return history.released(name)

    try:
        _amend(store, keys, released, now, lease)
    finally:
        lease.end_if_possible()


def _amend(
    store: Store,
    keys: Keys,
    change: Callable[[History], History],
    now: Callable[[], datetime],
    lease: PublisherLease,
) -> None:
    """Signs the committed revision again with a changed history. Raises as `commit_revision`."""

    def amended(committed: Revision) -> Revision:
        history = write_history(store, change(read_history(store, committed)), lease)
        return msgspec.structs.replace(committed, history=history)

    replace_revision(store, keys, amended, now=now(), lease=lease)


def check_whole(store: Store, lease: PublisherLease, past: PastRevision, newest: Revision) -> None:
    """Makes sure that the store has every object that an older revision leads to, and that these objects stay
    until the lease ends. Skips objects that the newest revision leads to as well. Raises UsageError if an
    object is missing."""
    objects, read, seen = LeasedObjects(store, lease), reader(store), Seen()
    waiting = [catalog_at(newest.root)]
    seen.first(waiting[0])
    while waiting:
        found = waiting.pop()
        below = leads_to(found, read(found.ref), profiles=True)
        waiting.extend(one for one in below if seen.first(one) and one.leads_on)
    start = catalog_at(past.root)
    waiting = [start] if seen.first(start) else []
    while waiting:
        found = waiting.pop()
        if not objects.has(found.ref.digest):
            path = found.path.decode(errors="backslashreplace") or "/"
            raise UsageError(
                f"revision {past.number} is not whole in the store any more ({path}: {found.kind} "
                f"{found.ref.digest.hex()} is gone): revisions are kept for {newest.params.keep_days} days "
                "after they were replaced, or until their name is released"
            )
        if found.leads_on:
            below = leads_to(found, read(found.ref), profiles=True)
            waiting.extend(one for one in below if seen.first(one))
