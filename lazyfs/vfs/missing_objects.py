"""The source of the vfs's objects, and the exceptions that name missing ones."""

from collections.abc import Callable, Mapping
from typing import Protocol

from lazyfs.core.digest import Digest, ObjectRef

Fetched = Mapping[Digest, bytes]
"""Verified plaintexts that were fetched for the present call. They are passed to it directly, so it succeeds
even if no cache has room for them."""

NOTHING: Fetched = {}


class LocalObjects(Protocol):
    """Objects that can be had without waiting for a network. The methods return None for one that is not
    here, or is here with another size."""

    namespace: bytes
    """Empty for a repository that anybody may read; otherwise a part of its objects' cache keys, so that only
    holders of its credential can read them."""

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        """Returns the whole plaintext, verified."""
        ...

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        """Returns bytes [start, start + length) of the plaintext, verified; the range lies inside the
        object."""
        ...

    def copy_at_hand(self, file: ObjectRef, start: int, length: int, fetched: Fetched) -> bytes | None:
        """Returns bytes [start, start + length) of a small file, verified, from a copy of it that is not in
        the pack which its entry names. `file`: the file's SHA-256 and size."""
        ...


class Need(Exception):
    """The call needs the objects `refs` of a repository, which are missing. The caller fetches them and calls
    again with them."""

    def __init__(self, repository: str, refs: tuple[ObjectRef, ...]) -> None:
        super().__init__(repository, refs)
        self.repository = repository
        self.refs = refs


class NeedDecoding(Need):
    """The call needs a catalog or directory that is too large to be decoded under the filesystem's lock."""

    def __init__(self, decode: Callable[[], Callable[[], object]]) -> None:
        """`decode` is called without the lock and may take long; it raises Need or FormatError. It returns a
        function that keeps the decoded object and is to be called under the lock."""
        super().__init__("", ())
        self.decode = decode


class NeedRepository(Exception):
    """The call needs a repository that is not open yet, or a look for a newer revision of an open one. The
    caller opens the repository, or waits for the look, and calls again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
