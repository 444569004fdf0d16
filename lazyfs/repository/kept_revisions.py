"""The revisions of a repository that must stay readable."""

from typing import NamedTuple

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.history.head import History
from lazyfs.core.history.records import PastRevision, Read
from lazyfs.core.params import Revision
from lazyfs.repository.stored_history import read_history
from lazyfs.store import Store, reader

DAY = 86_400


class KeptRevision(NamedTuple):
    """A revision that a collection spares, and why."""

    past: PastRevision
    history: ObjectRef | None
    """The head of the history as it was when the revision was signed."""
    until: float | None
    """The revision is kept at least until this time (seconds since 1970), which is counted from its
    replacement. None: it is kept without end, because it is the newest or has a name."""
    names: tuple[str, ...]


def kept_revisions(
    store: Store, newest: Revision, now: float, under_way: int | None = None
) -> list[KeptRevision]:
    """Returns the revisions to keep, newest first. These are the newest revision, those replaced at most
    `keep_days` ago, and those with names; and, because publishers under way may have started from them,
    revision number `under_way` and all later ones.

    Raises UsageError if the history does not go back to all of them, and the errors of reading it.
    """
    history, read = read_history(store, newest), reader(store)
    names: dict[int, list[str]] = {}
    for kept in history.names:
        names.setdefault(kept.number, []).append(kept.name)
    found: list[KeptRevision] = []
    after: PastRevision | None = None
    last: PastRevision | None = None
    for past in history.newest_first(read):
        last = past
        until = after.time + newest.params.keep_days * DAY if after else None
        in_use = under_way is not None and past.number >= under_way
        if until is not None and until <= now and not in_use:
            break
        head = after.before if after else newest.history
        given = tuple(names.pop(past.number, ()))
        found.append(KeptRevision(past, head, None if given else until, given))
        after = past
    else:
        _check_whole(last, newest, now)
    found += [_named(history, number, tuple(given), read) for number, given in names.items()]
    return sorted(found, key=lambda kept: -kept.past.number)


def _named(history: History, number: int, names: tuple[str, ...], read: Read) -> KeptRevision:
    past, after = history.find(number, read), history.find(number + 1, read)
    if past is None:
        raise UsageError(f"revision {number}, kept as {names[0]}, is not in the history: release the name")
    return KeptRevision(past, after.before if after else None, None, names)


def _check_whole(first: PastRevision | None, newest: Revision, now: float) -> None:
    """Raises UsageError if a revision that must be kept is older than `first`, the oldest one in the
    history."""
    if first is None or first.number == 1:
        return
    until = first.time + newest.params.keep_days * DAY
    if until > now:
        raise UsageError(
            f"the history of {newest.name} begins with revision {first.number}, and those before it must be "
            f"kept for {(until - now) / DAY:.1f} more days: nothing can be collected until then"
        )
