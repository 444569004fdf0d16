"""Older revisions, as far as the store still has their signed metadata."""

from collections.abc import Iterator

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from lazyfs.core.errors import TrustError, UsageError
from lazyfs.core.params import Pointer
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import TARGETS, file_name
from lazyfs.repository import commit as pointers
from lazyfs.store.protocol import Store


def revisions(store: Store) -> Iterator[Pointer]:
    """From the committed revision back. Older signatures are not checked again (their keys may have been
    replaced since); what a revision leads to is, by its digests. Raises as `pointer.read`."""
    committed = pointers.read(store)
    yield committed.pointer
    seen = {committed.pointer.revision}
    for version in range(committed.held.targets.version - 1, 0, -1):
        data = store.read_metadata(file_name(TARGETS, version))
        if data is None:
            continue
        try:
            pointer = from_targets(Metadata[Targets].from_bytes(data).signed)
        except (RepositoryError, TrustError, ValueError, RecursionError):
            continue  # left by a killed publisher
        if pointer.revision not in seen and pointer.revision < committed.pointer.revision:
            seen.add(pointer.revision)
            yield pointer


def revision(store: Store, number: int) -> Pointer:
    """One revision; raises UsageError that names those there are."""
    there = []
    for pointer in revisions(store):
        if pointer.revision == number:
            return pointer
        there.append(pointer.revision)
    raise UsageError(f"the store has no revision {number}, only {there[-1]} to {there[0]}")
