"""The contract of a store: immutable objects, and a few metadata names that change.

Every implementation passes the suite in tests/store/test_store_contract.py.

Order. A publisher puts objects, calls `sync`, then writes metadata, the timestamp last. A reader that follows
signed metadata therefore finds every object it is led to.

Objects. An object's name is the digest of its plaintext and never changes its meaning, so `put` of a name
that exists is a no-op, and any number of publishers may put objects side by side. A publisher can read its
own objects at once, and another publisher's objects after that publisher's `sync`.

Metadata. A write is all or nothing and conditional on the name's present content: of two publishers that
start from the same state one gets StoreConflict. With `exclusive` a publisher waits for its turn, and does
not lose its work to this condition. If an implementation's conditional write is atomic between machines, as a
bucket's is, its `exclusive` may do nothing. Any other implementation relies on `exclusive`: its callers
replace metadata only inside it.

Collection. A collector lists objects and deletes those that no revision leads to. It is kept apart from
publishers by repository/collect.py, through conditional writes of one metadata file. So a store promises only
this: `now` and the times of a listing are of one clock, which all users of the store share; a deletion is
done when `delete` returns; an object that is put afterwards is stored again.

Errors. Each method raises StoreError when the disk or bucket fails; then nothing was committed.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from lazyfs.core.digest import Digest
from lazyfs.core.errors import LazyfsError, UsageError


class StoreError(LazyfsError):
    """The store's disk or bucket failed: full, read-only, no permission; nothing was committed."""


class StoreConflict(UsageError):
    """Another publisher was first, or holds the store; nothing was changed."""


class StoredObject(NamedTuple):
    """An object as a listing shows it."""

    digest: Digest
    size: int
    """Stored bytes."""
    modified: float
    """The time at which the object's bytes were written, on the store's clock. Other processes see the
    object from then on, or from a later time."""


class ReadableStore(Protocol):
    """The part of a store that is read. A store behind a URL has only this part."""

    def get(self, digest: Digest) -> bytes:
        """Returns the object as it is stored: one zstd frame. Raises NotFound."""
        ...

    def read_metadata(self, name: str) -> bytes | None:
        """Returns a file under metadata/, or None if there is none."""
        ...


class ObjectSink(Protocol):
    """The part of a store that takes objects."""

    @property
    def writers(self) -> int:
        """The best number of threads that call `has` and `put` side by side: one for each core, up to a few,
        where the threads mostly hash and compress; more where each call waits for a server."""
        ...

    def has(self, digest: Digest) -> bool:
        """Returns True if the object is stored."""
        ...

    def put(self, digest: Digest, frame: bytes) -> None:
        """Stores an object, a zstd frame, under its plaintext's digest; a no-op if the object is there (first
        writer wins)."""
        ...


class Store(ObjectSink, ReadableStore, Protocol):
    """A store that publishers write to. Safe to use from several threads."""

    def objects(self) -> Iterator[StoredObject]:
        """Lists every object that was there from the call to the end of the listing, each once, in any order.

        Objects that are put or deleted meanwhile, and objects that are not synced yet, may be listed or not.
        Garbage collection needs the listing to find the objects that no revision leads to. A listing does not
        prove that an object is missing: ask `has`.
        """
        ...

    def delete(self, digests: Sequence[Digest]) -> None:
        """Deletes these objects, up to 1,000 of them. Passes over objects that are not there."""
        ...

    def delete_unnamed(self, before: float) -> int:
        """Deletes each temporary file that was written before the time `before` on the store's clock: a
        killed publisher has left it. Returns the number of bytes deleted."""
        ...

    def now(self) -> float:
        """Returns the time on the store's clock, in seconds since 1970. Needs no free space."""
        ...

    def spare(self) -> AbstractContextManager[None]:
        """Frees, for the time of the context, the space that the store has set aside: a collection must write
        its lists before its first deletion, even if the disk is full. Does nothing in a store that sets no
        space aside."""
        ...

    def sync(self) -> None:
        """Returns when everything put so far, and the directories that name it, are on stable storage."""
        ...

    def abandon(self) -> None:
        """Drops the objects that this publisher has put and that other processes cannot see yet. To be called
        when a publish has failed."""
        ...

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        """Writes a file under metadata/ atomically and durably, if it now holds `expected` (None: if it does
        not exist). Raises StoreConflict if it holds something else, ValueError for a name outside metadata/.
        """
        ...

    def metadata_names(self) -> Iterator[str]:
        """Lists the files under metadata/ that were there from the call to the end of the listing, in any
        order."""
        ...

    def delete_metadata(self, name: str) -> None:
        """Deletes a file under metadata/ that nothing names any more; a no-op if there is none. Raises
        ValueError for a name outside metadata/."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Keeps other publishers out while the caller commits. If another publisher holds the store for too
        long, raises StoreConflict, which names that publisher. A publisher that dies releases the store."""
        ...
