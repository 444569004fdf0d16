"""The files that list the objects of a collection, and the deletion of the listed objects.

The *state* is that of `collection_state`, a file which publishers and collectors share: it names the list's
file.
"""

import secrets
from collections.abc import Callable, Collection, Sequence

import msgspec

from lazyfs.core.digest import SIZE, Digest, sha256
from lazyfs.core.errors import FormatError
from lazyfs.repository.collection_state import CollectionState, ObjectList, change_state
from lazyfs.repository.collector_lease import CollectorLease
from lazyfs.store import Store

PREFIX = "collection-"
BATCH = 500
"""The largest number of objects that are deleted between two reads of the state: a directory is locked once
for them, a bucket gets one request."""


def write_list(store: Store, digests: Collection[Digest]) -> ObjectList:
    """Writes the list of a new collection under a name of its own, and returns its description for the
    state."""
    return _write(store, ObjectList(secrets.token_hex(8), "", "", 0, ()), digests)


def write_final(store: Store, condemned: ObjectList, digests: Collection[Digest]) -> ObjectList:
    """Writes the list of deletions: the condemned objects that are now to be deleted. Returns its
    description, which replaces `condemned` in the state."""
    return _write(store, msgspec.structs.replace(condemned, waits_for=(), deleting=True), digests)


def _write(store: Store, listed: ObjectList, digests: Collection[Digest]) -> ObjectList:
    encoded = b"".join(sorted(digests))
    name = f"{PREFIX}{secrets.token_hex(8)}.list"
    store.write_metadata(name, encoded, expected=None)
    digest = sha256(encoded).hex()
    return msgspec.structs.replace(listed, name=name, digest=digest, objects=len(digests))


def read_list(store: Store, listed: ObjectList) -> list[Digest] | None:
    """Returns the objects of a list. Returns None if its file is gone, because the collection has gone on or
    is over.

    Raises FormatError if the file does not have the digest that the state names.
    """
    encoded = store.read_metadata(listed.name)
    if encoded is None:
        return None
    if sha256(encoded).hex() != listed.digest:
        raise FormatError(
            f"metadata/{listed.name} of the store is damaged: when no publish and no collection is under "
            "way, delete it and metadata/collection.json"
        )
    return [Digest(encoded[at : at + SIZE]) for at in range(0, len(encoded), SIZE)]


def delete_listed(
    store: Store,
    listed: ObjectList,
    digests: Sequence[Digest],
    lease: CollectorLease,
    deleted: Callable[[int], None] = lambda _count: None,
) -> bool:
    """Deletes `digests`, in batches, then forgets the list that they are from. The state must say already
    that the deletion of this list has begun. `deleted` is called with the size of each batch.

    Returns False if it stopped early because another process has taken over. Raises CollectorLost,
    StoreError.
    """
    for at in range(0, len(digests), BATCH):
        batch = digests[at : at + BATCH]
        lease.keep_alive()
        with store.exclusive():
            if not lease.may_delete(listed):
                return False
            store.delete(batch)
        deleted(len(batch))
    forget_list(store, listed)
    return True


def forget_list(store: Store, listed: ObjectList) -> CollectionState:
    """Removes the list from the state, if it is still there, then deletes its file. Returns the state."""

    def without(state: CollectionState) -> CollectionState:
        return msgspec.structs.replace(state, listed=None) if state.lists(listed) else state

    state = change_state(store, without)
    store.delete_metadata(listed.name)
    return state
