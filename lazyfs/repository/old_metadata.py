"""Deletes the signed files of revisions that are no longer kept, and the files left by collections and plans
that are over."""

import re
from collections.abc import Collection

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from lazyfs.core.errors import LazyfsError
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import SNAPSHOT, TARGETS, file_name
from lazyfs.repository.collection_state import CollectionState
from lazyfs.repository.commit import read_committed
from lazyfs.repository.conversion_files import lease_of
from lazyfs.repository.object_lists import PREFIX
from lazyfs.store import Store

NEWEST = 16
"""The signed files of this many newest versions are never deleted: a proxy may serve a timestamp that is half
a minute old."""
_NAME = re.compile(rf"(\d{{1,19}})\.({TARGETS}|{SNAPSHOT})\.json")


def delete_old_metadata(store: Store, kept: Collection[int], state: CollectionState) -> int:
    """Deletes signed files of revisions that are not kept, and files that collections and plans have left.
    Returns the number of signed files deleted. Only the collector under way may call this.

    `kept`: numbers of the kept revisions, among them the newest at the time of marking. Revisions after that
    one are kept too.
    """
    newest = read_committed(store).proven.snapshot.version
    versions = set()
    for name in list(store.metadata_names()):
        found = _NAME.fullmatch(name)
        if found:
            versions.add(int(found[1]))
        elif _is_left(name, state):
            store.delete_metadata(name)
    deleted = 0
    for version in sorted(versions):
        if version > newest - NEWEST:
            continue
        number = _revision(store, version)
        if number in kept or number > max(kept):
            continue
        for role in (TARGETS, SNAPSHOT):
            store.delete_metadata(file_name(role, version))
            deleted += 1
    return deleted


def _is_left(name: str, state: CollectionState) -> bool:
    """Returns True if the file is the list of a collection that is over, or a shard's file of a plan that is
    over."""
    if name.startswith(PREFIX):
        return state.listed is None or name != state.listed.name
    lease = lease_of(name)
    return lease is not None and state.lease(lease) is None


def _revision(store: Store, version: int) -> int:
    """Returns the number of the revision in a version of the targets; 0 if the file states none."""
    data = store.read_metadata(file_name(TARGETS, version))
    try:
        return from_targets(Metadata[Targets].from_bytes(data or b"").signed).number
    except (RepositoryError, LazyfsError, ValueError, RecursionError):
        return 0
