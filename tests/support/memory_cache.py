"""A LocalCache in a dict, whose disk can fail."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from lazyfs.core.digest import Digest


class MemoryCache:
    """A cache that never evicts. With `failing` it has nothing and takes nothing, like a cache on a dead
    disk."""

    def __init__(self) -> None:
        self.proven: dict[Digest, bytes] = {}
        self.failing = False
        self._claims: dict[Digest, _Claim] = {}
        self._lock = threading.Lock()

    def get(self, key: Digest) -> bytes | None:
        return None if self.failing else self.proven.get(key)

    def read(self, key: Digest, offset: int, length: int, size: int | None = None) -> bytes | None:
        plain = self.get(key)
        if plain is None or size not in (None, len(plain)):
            return None
        return plain[offset : offset + length]

    def put(self, key: Digest, data: bytes) -> bool:
        if not self.failing:
            self.proven[key] = data
        return not self.failing

    def claim(self, key: Digest, waited: float = 0.0) -> "_Claim | None":
        with self._lock:
            if key in self._claims:
                return None
            claim = self._claims[key] = _Claim(self, key)
            return claim

    def put_many(self, values: Sequence[tuple[Digest, bytes]]) -> list[bool]:
        return [self.put(key, data) for key, data in values]

    def claim_many(self, keys: Sequence[Digest]) -> "list[_Claim | None]":
        return [self.claim(key) for key in keys]

    def wait(self, key: Digest, timeout: float, waited: float = 0.0) -> bool:
        claim = self._claims.get(key)
        return claim is None or claim.ended.wait(timeout)

    def release(self, key: Digest) -> None:
        with self._lock:
            self._claims.pop(key).ended.set()


class _Claim:
    def __init__(self, cache: MemoryCache, key: Digest) -> None:
        self._cache = cache
        self._key = key
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.release(self._key)
