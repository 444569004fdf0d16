"""Where published files go: immutable objects, and a few metadata names that change."""

from contextlib import AbstractContextManager
from typing import Protocol

from lazyfs.core.digest import Digest
from lazyfs.core.errors import LazyfsError


class StoreError(LazyfsError):
    """The store's disk or bucket failed: full, read-only, no permission; nothing was committed."""


class Store(Protocol):
    """Contract: write objects, then sync(), then metadata; a reader never sees half a file."""

    def has(self, digest: Digest) -> bool:
        """Whether the object is stored."""
        ...

    def put(self, digest: Digest, frame: bytes) -> None:
        """Stores a frame under its plaintext's digest; a no-op if the object is there (first writer wins)."""
        ...

    def get(self, digest: Digest) -> bytes:
        """The stored frame. Raises NotFound."""
        ...

    def sync(self) -> None:
        """Returns when everything put so far, and the directories that name it, are on stable storage."""
        ...

    def abandon(self) -> None:
        """Drops what was put since the last sync, as far as it has no name yet: the publish has failed."""
        ...

    def read_metadata(self, name: str) -> bytes | None:
        """A file under metadata/, or None."""
        ...

    def write_metadata(self, name: str, data: bytes, *, replace: bool) -> None:
        """Writes a file under metadata/ atomically and durably. Without `replace`, raises UsageError if the
        name exists: two publishers cannot both make revision N."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Held while a publisher commits; raises UsageError naming the holder if another has it."""
        ...
