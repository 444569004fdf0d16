"""Deletes those objects of a repository's copy that no kept revision needs."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError, NotFound
from lazyfs.core.params import Revision
from lazyfs.core.reach import catalog_at, history_at, walk
from lazyfs.repository.delegation import objects_of_list
from lazyfs.repository.kept_revisions import kept_revisions
from lazyfs.repository.stored_history import read_history
from lazyfs.store import Store, StoreError, reader

LEFT = 86_400.0
"""Seconds for which an object that no revision leads to stays: a killed run may have copied it for the next
run."""
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


def delete_unkept(target: Store, revision: Revision, report: MirrorReport) -> None:
    """Deletes the objects that no kept revision of the copy leads to. Notes failed deletions in the report
    and goes on; the next run tries them again."""
    now = target.now()
    read = reader(target)
    kept = {one.past.number: one for one in kept_revisions(target, revision, now)}
    gone = [
        past.root
        for past in read_history(target, revision).newest_first(read)
        if past.number not in kept and target.has(past.root.digest)
    ]
    if not gone:  # a run without anything to delete lists nothing
        return
    reached = _marked(
        target, report, [one.past.root for one in kept.values()], [one.history for one in kept.values()]
    )
    if reached is None:
        return
    first = [digest for root in gone for digest in _led_to(target, root) if digest not in reached]
    # Catalogs come before what they lead to; what was left by a run that was killed has none above it.
    listed = target.objects()
    rest = [one.digest for one in listed if one.modified < now - LEFT and one.digest not in reached]
    order = list(dict.fromkeys([*first, *rest]))
    for at in range(0, len(order), _DELETED):
        try:
            target.delete(order[at : at + _DELETED])
            report.deleted += len(order[at : at + _DELETED])
        except StoreError as error:
            report.problems.append(str(error))


def _marked(
    target: Store, report: MirrorReport, roots: list[ObjectRef], heads: list[ObjectRef | None]
) -> set[Digest] | None:
    """Returns the digests of the objects that some revisions lead to, as far as the copy has them. `roots`,
    `heads`: the revisions' root catalogs, and the heads of their histories. Returns None, with a note in the
    report, if an object cannot be read."""
    read = reader(target)
    starts = [catalog_at(root) for root in roots if target.has(root.digest)]
    starts += [history_at(head) for head in heads if head and target.has(head.digest)]
    try:
        reached = {found.ref.digest for found in walk(starts, read, profiles=True)}
        return reached.union(objects_of_list(target))
    except LazyfsError as error:
        report.problems.append(f"nothing was deleted: {error}")
        return None


def _led_to(target: Store, root: ObjectRef) -> Iterator[Digest]:
    """Yields the objects to which `root` leads, catalogs first. `root`: the root catalog of a revision that
    is not kept any more. Skips everything below an object that is missing."""

    def read(ref: ObjectRef) -> bytes | None:
        try:
            return reader(target)(ref)
        except NotFound:
            return None

    for found in walk([catalog_at(root)], read, profiles=True):
        yield found.ref.digest
