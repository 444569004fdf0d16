"""The revisions before the committed one, as far as the store has their signed metadata."""

from collections.abc import Iterator

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from lazyfs.core.errors import TrustError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import TARGETS, file_name
from lazyfs.repository.commit import read_committed
from lazyfs.store.protocol import Store


def revisions(store: Store) -> Iterator[Revision]:
    """Yields the committed revision, then older ones, newest first. Raises as `read_committed`.

    Signatures of older revisions are not checked again, because their keys may have been replaced since; the
    objects they lead to are still checked by digest.
    """
    committed = read_committed(store)
    yield committed.revision
    seen = {committed.revision.number}
    for version in range(committed.proven.targets.version - 1, 0, -1):
        data = store.read_metadata(file_name(TARGETS, version))
        if data is None:
            continue
        try:
            revision = from_targets(Metadata[Targets].from_bytes(data).signed)
        except (RepositoryError, TrustError, ValueError, RecursionError):
            continue  # left by a killed publisher
        if revision.number not in seen and revision.number < committed.revision.number:
            seen.add(revision.number)
            yield revision


def find_revision(store: Store, number: int) -> Revision:
    """Returns the revision with this number. Raises UsageError that names the numbers there are."""
    there = []
    for revision in revisions(store):
        if revision.number == number:
            return revision
        there.append(revision.number)
    raise UsageError(f"the store has no revision {number}, only {there[-1]} to {there[0]}")
