"""The cache as `Objects` uses it; lazyfs_cache implements it, and tests do so with a dict."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from lazyfs.core.digest import Digest


class CacheLease(Protocol):
    """The right to fetch the object of one key, from `LocalCache.claim`. The right ends with its `with`
    block."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class LocalCache(Protocol):
    """Plaintext of objects on local disk. Thread-safe; a failing disk is never an error, only a miss."""

    def get(self, key: Digest, /) -> bytes | None:
        """Returns a whole value, verified; None if it is not here."""
        ...

    def read(self, key: Digest, offset: int, length: int, size: int | None = None, /) -> bytes | None:
        """Returns part of a value, verified and cut at its end; None if it is not here, or has another
        size."""
        ...

    def put(self, key: Digest, data: bytes, /) -> bool:
        """Admits a verified value. Returns True if the cache has it afterwards. Other values are evicted only
        once the bytes of this one have arrived."""
        ...

    def claim(self, key: Digest, waited: float = 0.0, /) -> CacheLease | None:
        """Returns the right to fetch this key; None while another process has it. `waited`: seconds since the
        caller first asked; after two seconds, the right is shared with a holder that is stopped or slow."""
        ...

    def claim_many(self, keys: Sequence[Digest], /) -> Sequence[CacheLease | None]:
        """Claims several keys for a caller that has not waited yet. Returns the result of `claim` for each
        key."""
        ...

    def put_many(self, values: Sequence[tuple[Digest, bytes]], /) -> Sequence[bool]:
        """Admits several verified values. A value that fails does not affect the other values."""
        ...

    def wait(self, key: Digest, timeout: float, waited: float = 0.0, /) -> bool:
        """Waits at most `timeout` seconds until a claim may succeed. Returns True if it may."""
        ...
