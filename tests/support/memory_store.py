"""A store in memory with a clock that the test controls. Like a bucket it has no locks, only conditional
writes, which decide between publishers. A test can watch every operation, and kill or interleave publishers
there."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from lazyfs.core.digest import Digest
from lazyfs.core.errors import NotFound
from lazyfs.store import StoreConflict, StoredObject


class Bucket:
    """The content of a bucket, shared by all stores that are opened on it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.mutex = threading.Lock()
        self.objects: dict[Digest, tuple[bytes, float]] = {}
        self.metadata: dict[str, bytes] = {}


def unwatched(_operation: str) -> None:
    """A watcher of operations that does nothing."""


class MemoryStore:
    """One publisher's view of a bucket. Calls `before` with the name of each operation before the operation
    is done, and again before each object of a deletion."""

    writers = 2

    def __init__(self, bucket: Bucket, before: Callable[[str], None] = unwatched) -> None:
        self.bucket = bucket
        self._before = before
        self._pending: dict[Digest, tuple[bytes, float]] = {}

    def has(self, digest: Digest) -> bool:
        self._before("has")
        return digest in self._pending or digest in self.bucket.objects

    def put(self, digest: Digest, frame: bytes) -> None:
        self._before("put")
        with self.bucket.mutex:
            if digest not in self._pending and digest not in self.bucket.objects:
                self._pending[digest] = frame, self.bucket.clock()

    def get(self, digest: Digest) -> bytes:
        self._before("get")
        found = self._pending.get(digest) or self.bucket.objects.get(digest)
        if found is None:
            raise NotFound(f"object {digest.hex()} is not in the bucket")
        return found[0]

    def objects(self) -> Iterator[StoredObject]:
        self._before("objects")
        for digest, (frame, modified) in list(self.bucket.objects.items()):
            yield StoredObject(digest, len(frame), modified)

    def delete(self, digests: Sequence[Digest]) -> None:
        self._before("delete")
        for digest in digests:
            self._before("delete one")
            self.bucket.objects.pop(digest, None)

    def delete_unnamed(self, before: float) -> int:
        self._before("delete_unnamed")
        return 0

    def now(self) -> float:
        return self.bucket.clock()

    def spare(self) -> AbstractContextManager[None]:
        return nullcontext()

    def sync(self) -> None:
        self._before("sync")
        with self.bucket.mutex:
            for digest, stored in self._pending.items():
                self.bucket.objects.setdefault(digest, stored)
            self._pending.clear()

    def abandon(self) -> None:
        self._pending.clear()

    def read_metadata(self, name: str) -> bytes | None:
        self._before("read_metadata")
        return self.bucket.metadata.get(_checked(name))

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        self._before("write_metadata")
        with self.bucket.mutex:
            if self.bucket.metadata.get(_checked(name)) != expected:
                raise StoreConflict(f"metadata/{name} is another one already: another publisher was first")
            self.bucket.metadata[name] = data

    def metadata_names(self) -> Iterator[str]:
        self._before("metadata_names")
        yield from list(self.bucket.metadata)

    def delete_metadata(self, name: str) -> None:
        self._before("delete_metadata")
        self.bucket.metadata.pop(_checked(name), None)

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()


def _checked(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no metadata name")
    return name
