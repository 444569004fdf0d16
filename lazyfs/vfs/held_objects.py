"""Decoded objects in memory, within a limit that the repositories of a mount share.

The repository whose objects take the most bytes gives up those that it used least recently. So a repository
of large catalogs does not push out the objects of other repositories, which would have to be read and decoded
again.
"""

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef


class HeldKey(NamedTuple):
    """The name of a held object. The stated size is part of it: the same digest with another size names
    another object. The namespace is part of it too, because a digest alone must not open a private object."""

    namespace: bytes
    ref: ObjectRef
    file_size: int = 0
    """Of a chunk list: bytes of the file that it belongs to."""
    shift: int = 0
    """Of a chunk list: log2 of the chunk size of its file."""


Parsed = TypeVar("Parsed", Catalog, ChunkList)


class _Part(Generic[Parsed]):
    """The objects of one repository, the most recently used one last."""

    __slots__ = ("bytes", "held", "repository")

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.held: OrderedDict[HeldKey, tuple[Parsed, int]] = OrderedDict()
        self.bytes = 0


class HeldObjects(Generic[Parsed]):
    """Objects by key, within a limit. An object belongs to the repository that read it first. The object that
    was kept last stays, however large it is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[HeldKey, _Part[Parsed]] = {}
        self._parts: dict[str, _Part[Parsed]] = {}
        self.bytes = 0
        """Bytes charged for all held objects."""

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: HeldKey) -> Parsed | None:
        """Returns an object; None if it is not held. Counts as a use of the object."""
        part = self._places.get(key)
        if part is None:
            return None
        part.held.move_to_end(key)
        return part.held[key][0]

    def keep(self, key: HeldKey, parsed: Parsed, size: int, repository: str) -> Parsed:
        """Holds an object for the repository that read it, charged with `size` bytes, and returns the
        object."""
        if key in self._places:
            self._drop(key)
        part = self._parts.get(repository)
        if part is None:
            part = self._parts[repository] = _Part(repository)
        part.held[key] = parsed, size
        part.bytes += size
        self._places[key] = part
        self.bytes += size
        self._make_room(key)
        return parsed

    def resize(self, limit: int) -> None:
        """Sets another limit, and drops what exceeds it; the most recently used object always stays."""
        self._limit = limit
        if self._places:
            self._make_room(next(reversed(self._places)))

    def recharge(self, key: HeldKey, parsed: Parsed, size: int) -> None:
        """Charges an object with the bytes that it takes now, if it is still held."""
        part = self._places.get(key)
        if part is not None and part.held[key][0] is parsed:
            self.keep(key, parsed, size, part.repository)

    def in_use(self) -> list[tuple[str, HeldKey]]:
        """Returns (repository, key) of each held object; the repository is the one that read the object. The
        objects of a repository are in the order of use, the most recently used one last."""
        return [(part.repository, key) for part in self._parts.values() for key in part.held]

    def clear(self) -> None:
        """Drops everything."""
        self._places.clear()
        self._parts.clear()
        self.bytes = 0

    def _make_room(self, kept: HeldKey) -> None:
        while self.bytes > self._limit and len(self._places) > 1:
            self._drop(self._next_out(kept))

    def _next_out(self, kept: HeldKey) -> HeldKey:
        """Returns the key of the object to drop next, other than the one just kept."""
        parts = sorted(self._parts.values(), key=lambda part: part.bytes, reverse=True)
        return next(key for part in parts for key in part.held if key != kept)

    def _drop(self, key: HeldKey) -> None:
        part = self._places.pop(key)
        _, size = part.held.pop(key)
        part.bytes -= size
        self.bytes -= size
        if not part.held:
            del self._parts[part.repository]
