"""No cache: the same calls, every answer "not here"."""

from collections.abc import Iterator, Sequence

from lazyfs_cache.index.rows import Entry
from lazyfs_cache.process.download_locks import DownloadLock
from lazyfs_cache.process.reservation import Reservation
from lazyfs_cache.report import Stats


class NullCache:
    """The cache to use if no cache directory is configured or usable."""

    generation = 0

    def __init__(self, why: str = "no cache directory") -> None:
        self._why = why

    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002
        return None

    def read(self, key: bytes, offset: int, length: int, size: int | None = None) -> bytes | None:  # noqa: ARG002
        return None

    def size(self, key: bytes) -> int | None:  # noqa: ARG002
        return None

    def reserve(self, key: bytes, size: int) -> Reservation | None:  # noqa: ARG002
        return None

    def put(
        self,
        key: bytes,  # noqa: ARG002
        value: bytes | memoryview,  # noqa: ARG002
        reservation: object = None,  # noqa: ARG002
        *,
        tenant: bytes = b"",  # noqa: ARG002
    ) -> bool:
        return False

    def claim(self, key: bytes, waited: float = 0.0) -> DownloadLock:  # noqa: ARG002
        return DownloadLock()

    def put_many(
        self,
        values: Sequence[tuple[bytes, bytes | memoryview]],
        *,
        tenant: bytes = b"",  # noqa: ARG002
    ) -> list[bool]:
        return [False] * len(values)

    def claim_many(self, keys: Sequence[bytes]) -> list[DownloadLock | None]:
        return [DownloadLock() for _ in keys]

    def wait(self, key: bytes, timeout: float, waited: float = 0.0) -> bool:  # noqa: ARG002
        return True

    def discard(self, key: bytes) -> None:
        pass

    def pin(self, key: bytes, owner: bytes) -> bool:  # noqa: ARG002
        return False

    def unpin(self, key: bytes, owner: bytes) -> bool:  # noqa: ARG002
        return True

    def processes(self) -> int:
        return 1

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        return iter(())

    def stats(self) -> Stats:
        return Stats(state=f"off: {self._why}")

    def close(self) -> None:
        pass
