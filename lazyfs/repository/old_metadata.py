"""Deletes the signed files of revisions that are no longer kept, and lists that collections have left."""

import re
from collections.abc import Collection

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from lazyfs.core.errors import LazyfsError
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import SNAPSHOT, TARGETS, file_name
from lazyfs.repository.collection_state import CollectionState
from lazyfs.repository.commit import read_committed
from lazyfs.repository.object_lists import PREFIX
from lazyfs.store import Store

NEWEST = 16
"""Versions that stay in any case: a proxy may have a timestamp that is half a minute old."""
_NAME = re.compile(rf"(\d{{1,19}})\.({TARGETS}|{SNAPSHOT})\.json")


def delete_old_metadata(store: Store, kept: Collection[int], state: CollectionState) -> int:
    """Deletes these files and returns the number of signed ones. `kept`: numbers of the kept revisions, the
    newest at that time among them; later revisions are kept too. Called only by the collector under way."""
    newest = read_committed(store).proven.snapshot.version
    versions = set()
    for name in list(store.metadata_names()):
        found = _NAME.fullmatch(name)
        if found:
            versions.add(int(found[1]))
        elif name.startswith(PREFIX) and (state.listed is None or name != state.listed.name):
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


def _revision(store: Store, version: int) -> int:
    """Returns the revision of a version of the targets, 0 if it states none."""
    data = store.read_metadata(file_name(TARGETS, version))
    try:
        return from_targets(Metadata[Targets].from_bytes(data or b"").signed).number
    except (RepositoryError, LazyfsError, ValueError, RecursionError):
        return 0
