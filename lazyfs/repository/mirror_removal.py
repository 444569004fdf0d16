"""Deletes those objects of a repository's copy that no kept revision needs.

No order of deletion would leave every catalog whole at every moment: a bucket deletes the objects of one
request in any order, and nobody knows what the objects were that a killed run has left. So a file in the
copy's metadata says that a deletion is under way. It is written before the first object is deleted, and goes
when the copy has nothing left but what its kept revisions lead to. Until then the next runs go on deleting,
and rely on no catalog that no kept revision leads to.
"""

from dataclasses import dataclass, field

from lazyfs.core.digest import Digest
from lazyfs.core.errors import LazyfsError
from lazyfs.core.params import Revision
from lazyfs.core.reach import catalog_at, history_at, walk
from lazyfs.repository.delegation import objects_of_list
from lazyfs.repository.kept_revisions import KeptRevision, kept_revisions
from lazyfs.repository.stored_history import read_history
from lazyfs.store import Store, StoreError, reader

UNDER_WAY = "deletion.json"
"""The file of metadata/ that says that a deletion is under way. Its content means nothing."""

LEFT = 86_400.0
"""Seconds for which an object that no revision leads to stays: a run that failed may have copied it for the
next run."""
_DELETED = 500
"""The largest number of objects that are deleted by one call."""


@dataclass
class MirrorReport:
    """The outcome of one run that copies a repository, or images of it, into another store (the target)."""

    revision: int = 0
    changed: bool = False
    objects: int = 0
    bytes: int = 0
    """Stored bytes of the `objects` that this run has copied into the target; deleted ones are not
    subtracted."""
    deleted: int = 0
    problems: list[str] = field(default_factory=list)
    """The errors met in marking and deleting objects, and the collected profiles that were not copied, one
    line each. The copy is whole nevertheless."""


def deletion_under_way(target: Store) -> bool:
    """Returns True if catalogs that no kept revision of the copy leads to may lack objects below them."""
    return target.read_metadata(UNDER_WAY) is not None


def delete_unkept(target: Store, revision: Revision, report: MirrorReport, *, under_way: bool) -> None:
    """Deletes the objects that no kept revision of the copy leads to, and what killed runs have left. Notes
    failures in the report; the next run goes on. `under_way`: the result of `deletion_under_way`."""
    try:
        now = target.now()
        target.delete_unnamed(now - LEFT)
        kept = kept_revisions(target, revision, now)
        gone = _gone(target, revision, kept)
        if gone or under_way:  # a run without anything to delete lists nothing
            reached = _reached(target, kept)
            with target.spare():  # the disk may be full
                if not under_way:
                    target.write_metadata(UNDER_WAY, b"{}", expected=None)
                _delete(target, [root for root in gone if root not in reached], reached, now, report)
    except LazyfsError as error:
        report.problems.append(f"not everything was deleted: {error}")


def _gone(target: Store, revision: Revision, kept: list[KeptRevision]) -> list[Digest]:
    """Returns the root catalogs that the copy has of revisions that are not kept."""
    numbers = {one.past.number for one in kept}
    roots = {one.past.root.digest for one in kept}
    past = read_history(target, revision).newest_first(reader(target))
    gone = {one.root.digest: None for one in past if one.number not in numbers}
    return [root for root in gone if root not in roots and target.has(root)]


def _reached(target: Store, kept: list[KeptRevision]) -> set[Digest]:
    """Returns the digests of the objects that the kept revisions lead to, as far as the copy has these
    revisions, and of the collected profiles. Raises LazyfsError if an object cannot be read."""
    starts = [catalog_at(one.past.root) for one in kept if target.has(one.past.root.digest)]
    starts += [history_at(one.history) for one in kept if one.history and target.has(one.history.digest)]
    reached = {found.ref.digest for found in walk(starts, reader(target), profiles=True)}
    return reached.union(objects_of_list(target))


def _delete(
    target: Store, gone: list[Digest], reached: set[Digest], now: float, report: MirrorReport
) -> None:
    """Deletes the root catalogs `gone`, then all objects that are not in `reached` and are older than LEFT.
    Notes a batch that fails and goes on."""
    for at in range(0, len(gone), _DELETED):  # first: where its root is, a revision is taken to be whole
        target.delete(gone[at : at + _DELETED])
        report.deleted += len(gone[at : at + _DELETED])
    left = [one for one in target.objects() if one.digest not in reached]
    old = [one.digest for one in left if one.modified < now - LEFT]
    whole = len(old) == len(left)
    for at in range(0, len(old), _DELETED):
        try:
            target.delete(old[at : at + _DELETED])
            report.deleted += len(old[at : at + _DELETED])
        except StoreError as error:
            report.problems.append(f"not everything was deleted: {error}")
            whole = False
    if whole:
        target.delete_metadata(UNDER_WAY)
