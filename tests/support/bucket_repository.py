"""A repository in a bucket of a real server, on a clock that the test moves forward."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.params import Params, Revision
from lazyfs.repository import lifecycle
from lazyfs.repository.keys import Keys
from lazyfs.store import StoredObject
from lazyfs.store.s3.client import Client
from lazyfs.store.s3.store import BucketStore
from tests.support.buckets import new_place, open_client
from tests.support.memory_repository import MemoryRepository, signers
from tests.support.memory_store import unwatched
from tests.support.radosgw import Radosgw


class MovedClock:
    """The server's clock plus the jumps that a test adds, shared by all stores of the repository."""

    def __init__(self) -> None:
        self.jumps: list[tuple[float, float]] = []
        """(time on the server's clock, seconds) of each jump."""

    def of(self, real: float) -> float:
        """Returns the moved time for a time on the server's clock."""
        return real + sum(length for when, length in list(self.jumps) if when <= real)

    def jump(self, seconds: float) -> None:
        self.jumps.append((time.time(), seconds))


class MovedStore(BucketStore):
    """A publisher's view of the bucket, on the moved clock. `before` is called with the name of each
    operation."""

    def __init__(self, client: Client, moved: MovedClock, before: Callable[[str], None]) -> None:
        super().__init__(client)
        self._moved = moved
        self._before = before

    def now(self) -> float:
        return self._moved.of(super().now())

    def objects(self) -> Iterator[StoredObject]:
        self._before("objects")
        for stored in super().objects():
            yield stored._replace(modified=self._moved.of(stored.modified))

    def has(self, digest: Digest) -> bool:
        self._before("has")
        return super().has(digest)

    def put(self, digest: Digest, frame: bytes) -> None:
        self._before("put")
        super().put(digest, frame)

    def delete(self, digests: Sequence[Digest]) -> None:
        self._before("delete")
        super().delete(digests)

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        self._before("write_metadata")
        super().write_metadata(name, data, expected=expected)


class BucketRepository(MemoryRepository):
    """A repository in a bucket. `url` is the address of a proxy in front of the server, through which watched
    publishers work."""

    def __init__(self, server: Radosgw, url: str, keep_days: int) -> None:
        self._server = server
        self._url = url
        self._moved = MovedClock()
        self._place = new_place(server)
        root, publisher, stamper = signers()
        self.keys = Keys([publisher, stamper])
        params = Params(keep_days=keep_days)
        new = Revision("test.example.org", 1, int(time.time()), ObjectRef(Digest(b""), 0), params)
        lifecycle.begin(self.store(), new, [root], 1, publisher, stamper, self.now(), 3650)

    @property
    def time(self) -> float:  # type: ignore[override]
        return self._moved.of(time.time())

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def pass_time(self, seconds: float) -> None:
        self._moved.jump(seconds)

    def store(self, before: Callable[[str], None] = unwatched) -> MovedStore:  # type: ignore[override]
        """Opens the bucket: through the proxy if `before` watches the operations, otherwise directly."""
        url = self._server.url if before is unwatched else self._url
        return MovedStore(open_client(self._server, self._place, url), self._moved, before)

    def objects(self) -> set[Digest]:
        return {stored.digest for stored in self.store().objects()}
