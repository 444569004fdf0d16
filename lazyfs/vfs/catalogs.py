"""Parsed catalogs and chunk lists in memory, bounded by their decoded size.

Small ones are read and decoded where they are needed, under the filesystem's lock; for large ones
NeedDecoding is raised, so that nobody else waits for them.
"""

from collections.abc import Callable
from typing import Final

from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef
from lazyfs.vfs.held_objects import HeldKey, HeldObjects, Parsed
from lazyfs.vfs.missing_objects import Fetched, LocalObjects, Need, NeedDecoding

LIMIT: Final = 96 << 20
"""The largest number of bytes of decoded catalogs that are held: a catalog whose every directory has been
touched takes six times its encoded size. The largest possible catalog fits, together with the catalogs on the
way to it."""
LIST_LIMIT: Final = 8 << 20
"""The largest number of bytes of chunk lists that are held."""
ENTRIES_AT_ONCE: Final = 1024
"""The largest number of entries of a directory that is decoded under the lock: 3 ms."""
BYTES_AT_ONCE: Final = 256 << 10
"""The largest number of bytes of a catalog or chunk list that is read and parsed under the lock: 1 ms."""


class _Catalog(Catalog):
    """A catalog that, whenever a directory was decoded, reports to its holder how much memory the catalog
    takes. It raises NeedDecoding for large directories, so that they are decoded without the lock."""

    def __init__(self, encoded: bytes, key: HeldKey, holder: HeldObjects[Catalog]) -> None:
        super().__init__(encoded)
        self._key = key
        self._holder = holder

    def _first_touch(self, number: int) -> Directory:
        if self.directory_size(number) > ENTRIES_AT_ONCE:
            raise NeedDecoding(lambda: self._decode_unlocked(number))
        found = super()._first_touch(number)
        self._grown()
        return found

    def _decode_unlocked(self, number: int) -> Callable[[], None]:
        super()._first_touch(number)
        return self._grown

    def _grown(self) -> None:
        self._holder.recharge(self._key, self, self.memory)


class ParsedObjects:
    """The parsed catalogs and chunk lists of a mount. Objects that are equal in several public repositories
    are held once. Not thread-safe: called under the filesystem's lock."""

    def __init__(self, limit: int = LIMIT, list_limit: int = LIST_LIMIT) -> None:
        self._catalogs: HeldObjects[Catalog] = HeldObjects(limit)
        self._lists: HeldObjects[ChunkList] = HeldObjects(list_limit)

    def __len__(self) -> int:
        return len(self._catalogs) + len(self._lists)

    @property
    def bytes(self) -> int:
        """Bytes charged for the objects held."""
        return self._catalogs.bytes + self._lists.bytes

    def catalog(self, repository: str, ref: ObjectRef, objects: LocalObjects, fetched: Fetched) -> Catalog:
        """Returns a parsed catalog. Raises Need or FormatError."""
        key = HeldKey(objects.namespace, ref)
        held = self._catalogs.get(key)
        if held is not None:
            return held

        def read() -> Callable[[], Catalog]:
            parsed = _Catalog(_bytes(repository, ref, objects, fetched), key, self._catalogs)
            return lambda: self._catalogs.keep(key, parsed, parsed.memory, repository)

        return _now_or_later(ref, read)

    def chunk_list(
        self, repository: str, ref: ObjectRef, size: int, shift: int, objects: LocalObjects, fetched: Fetched
    ) -> ChunkList:
        """Returns the parsed chunk list of a file of `size` bytes. `shift`: log2 of the size of its chunks.
        Raises Need or FormatError."""
        key = HeldKey(objects.namespace, ref, size, shift)
        held = self._lists.get(key)
        if held is not None:
            return held

        def read() -> Callable[[], ChunkList]:
            parsed = ChunkList(_bytes(repository, ref, objects, fetched), size, shift)
            return lambda: self._lists.keep(key, parsed, ref.size, repository)

        return _now_or_later(ref, read)

    def catalogs(self) -> list[tuple[str, HeldKey]]:
        """Returns each catalog held, with the repository for which it was read; the most recently used one
        last."""
        return self._catalogs.in_use()

    def resize(self, limit: int, list_limit: int) -> None:
        """Sets other limits, and drops what exceeds them. `limit`: bytes of catalogs. `list_limit`: bytes of
        chunk lists."""
        self._catalogs.resize(limit)
        self._lists.resize(list_limit)

    def clear(self) -> None:
        """Drops everything; each object is read again when it is needed."""
        self._catalogs.clear()
        self._lists.clear()


def _now_or_later(ref: ObjectRef, read: Callable[[], Callable[[], Parsed]]) -> Parsed:
    if ref.size > BYTES_AT_ONCE:
        raise NeedDecoding(read)
    return read()()


def _bytes(repository: str, ref: ObjectRef, objects: LocalObjects, fetched: Fetched) -> bytes:
    encoded = fetched.get(ref.digest) or objects.at_hand(ref)
    if encoded is None or len(encoded) != ref.size:
        raise Need(repository, (ref,))
    return encoded
