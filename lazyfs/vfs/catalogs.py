"""Parsed catalogs and chunk lists in memory: bounded, the least recently used dropped first."""

from collections import OrderedDict

from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.vfs.missing_objects import Fetched, LocalObjects, Need

LIMIT = 128 << 20
"""Bytes of encoded catalogs and chunk lists held. A catalog whose every directory has been touched takes
about four times its encoded size, a list its own."""


class ParsedObjects:
    """The parsed catalogs and chunk lists of a mount. Equal ones of several repositories are held once."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held: OrderedDict[Digest, tuple[Catalog | ChunkList, int]] = OrderedDict()
        self.bytes = 0
        """Encoded bytes held."""

    def __len__(self) -> int:
        return len(self._held)

    def catalog(self, repository: str, ref: ObjectRef, objects: LocalObjects, fetched: Fetched) -> Catalog:
        """Returns a parsed catalog. Raises Need or FormatError."""
        held = self._held.get(ref.digest)
        if held is not None:
            self._held.move_to_end(ref.digest)
            if isinstance(held[0], Catalog):
                return held[0]
        catalog = Catalog(_bytes(repository, ref, objects, fetched))
        self._keep(ref, catalog)
        return catalog

    def chunk_list(
        self, repository: str, ref: ObjectRef, size: int, shift: int, objects: LocalObjects, fetched: Fetched
    ) -> ChunkList:
        """Returns the parsed chunk list of a file of `size` bytes. Raises Need or FormatError."""
        held = self._held.get(ref.digest)
        if held is not None:
            self._held.move_to_end(ref.digest)
            if isinstance(held[0], ChunkList) and (held[0].size, held[0].shift) == (size, shift):
                return held[0]
        chunks = ChunkList(_bytes(repository, ref, objects, fetched), size, shift)
        self._keep(ref, chunks)
        return chunks

    def catalogs(self) -> dict[Digest, int]:
        """Returns the catalogs held, with their sizes in bytes, the latest used last."""
        return {digest: size for digest, (parsed, size) in self._held.items() if isinstance(parsed, Catalog)}

    def clear(self) -> None:
        """Drops everything; each object is read again when it is needed."""
        self._held.clear()
        self.bytes = 0

    def _keep(self, ref: ObjectRef, parsed: Catalog | ChunkList) -> None:
        before = self._held.pop(ref.digest, None)
        if before:
            self.bytes -= before[1]
        self._held[ref.digest] = (parsed, ref.size)
        self.bytes += ref.size
        while self.bytes > self._limit and len(self._held) > 1:
            _, (_, size) = self._held.popitem(last=False)
            self.bytes -= size


def _bytes(repository: str, ref: ObjectRef, objects: LocalObjects, fetched: Fetched) -> bytes:
    encoded = fetched.get(ref.digest) or objects.at_hand(ref)
    if encoded is None:
        raise Need(repository, (ref,))
    return encoded
