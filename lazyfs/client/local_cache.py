"""What objects need of a cache; lazyfs_cache offers it, and tests offer it from a dict."""

from types import TracebackType
from typing import Any, Protocol

from lazyfs.core.digest import Digest


class Held(Protocol):
    """Something given back on exit: a claim on a key, or reserved space."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class LocalCache(Protocol):
    """Plaintext of objects on local disk. Thread-safe; a failing disk only ever answers "not here"."""

    def get(self, key: Digest, /) -> bytes | None: ...

    def read(self, key: Digest, offset: int, length: int, /) -> bytes | None: ...

    def reserve(self, key: Digest, size: int, /) -> Held | None:
        """Holds space for a value before it is downloaded; None where there is none to be had."""
        ...

    def put(self, key: Digest, data: bytes, reserved: Any, /) -> bool:
        """Admits a verified value into the space that `reserve` held; True if it is here afterwards."""
        ...

    def claim(self, key: Digest, waited: float = 0.0, /) -> Held | None:
        """The right to fetch this key; None while another process has it. `waited`: seconds since the caller
        first asked; after two, it is let go beside a holder that is stopped or slow."""
        ...

    def wait(self, key: Digest, timeout: float, waited: float = 0.0, /) -> bool:
        """Waits at most `timeout` seconds until it is worth claiming again; True if it is."""
        ...
