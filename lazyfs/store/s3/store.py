"""A store in an S3 bucket. Conditional writes alone keep publishers apart, so `exclusive` does nothing.

`put` uploads an object whole and under its name, so `sync` has nothing left to do, and the publish that
follows a killed one repeats no upload.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from lazyfs.core.digest import Digest, object_path, parse_hex
from lazyfs.core.errors import FormatError, NotFound
from lazyfs.store.origin_server import FOREVER
from lazyfs.store.protocol import StoredObject
from lazyfs.store.s3.client import Client
from lazyfs.store.s3.clock import BucketClock
from lazyfs.store.s3.metadata import Metadata, metadata_key

WRITERS = 16
"""The number of threads that put objects: each object costs two round trips, and the threads wait for theirs
at the same time."""
AT_ONCE = 1000
"""The largest number of keys in one request that deletes objects: S3's limit."""
_OBJECT = {"Cache-Control": FOREVER, "Content-Type": "application/octet-stream"}


class BucketStore:
    """A store in a bucket. Safe to use from several threads and processes at once."""

    writers = WRITERS

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clock = BucketClock(client)
        self._metadata = Metadata(client)

    def has(self, digest: Digest) -> bool:
        return self._client.has(object_path(digest))

    def put(self, digest: Digest, frame: bytes) -> None:
        # Whatever the answer is, the object is there: a refusal says that its name exists.
        self._client.put(object_path(digest), frame, "create", _OBJECT)

    def get(self, digest: Digest) -> bytes:
        found = self._client.get(object_path(digest))
        if found is None:
            raise NotFound(f"object {digest.hex()} is not in store {self._client.location}")
        return found.data

    def objects(self) -> Iterator[StoredObject]:
        for line in self._client.listing("data"):
            try:
                digest = parse_hex("".join(line.key.removeprefix("data/").split("/")))
            except FormatError:
                continue
            if line.key == object_path(digest):
                yield StoredObject(digest, line.size, line.modified)

    def delete(self, digests: Sequence[Digest]) -> None:
        for at in range(0, len(digests), AT_ONCE):
            self._client.delete([object_path(digest) for digest in digests[at : at + AT_ONCE]])

    def delete_unnamed(self, before: float) -> int:  # noqa: ARG002 (an upload that was cut leaves nothing)
        return 0

    def now(self) -> float:
        return self._clock.now()

    def spare(self) -> AbstractContextManager[None]:
        return nullcontext()

    def sync(self) -> None:
        """Does nothing: a bucket answers a PUT only when the object is on stable storage."""

    def abandon(self) -> None:
        """Does nothing: every object that was put can be seen by all already. The next collection deletes the
        objects that nothing leads to."""

    def read_metadata(self, name: str) -> bytes | None:
        metadata_key(name)
        return self._metadata.read(name)

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        self._metadata.write(name, data, expected)

    def metadata_names(self) -> Iterator[str]:
        for line in self._client.listing("metadata"):
            yield line.key.removeprefix("metadata/")

    def delete_metadata(self, name: str) -> None:
        self._client.delete([metadata_key(name)])

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()
