"""Reading a store's own tree: paths, files and catalogs, every object verified."""

import stat
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.core import codec
from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.inode import Inode, from_entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import NotFound
from lazyfs.store.protocol import Store


class Place(NamedTuple):
    """An entry, and the catalog and directory number its children are in if it is a directory."""

    entry: Entry
    catalog: Catalog
    number: int


class StoredTree:
    """The tree below one root catalog."""

    def __init__(self, store: Store, root: ObjectRef) -> None:
        self._store = store
        self._root = root

    def read(self, ref: ObjectRef) -> bytes:
        """An object's plaintext. Raises NotFound, FormatError or DigestMismatch."""
        return codec.open_object(self._store.get(ref.digest), ref)

    def catalog(self, ref: ObjectRef) -> Catalog:
        """A parsed catalog."""
        return Catalog(self.read(ref))

    def root(self) -> Place:
        catalog = self.catalog(self._root)
        return Place(catalog.root, catalog, 0)

    def place(self, entry: Entry, catalog: Catalog) -> Place:
        """Where the entry's children are, for an entry of this catalog."""
        if entry.nested:
            catalog = self.catalog(entry.nested)
            return Place(entry, catalog, 0)
        return Place(entry, catalog, entry.detail if entry.is_dir else -1)

    def find(self, path: str) -> Place | None:
        """The entry at a path below the root; links are not followed."""
        place = self.root()
        for part in path.encode(errors="surrogateescape").split(b"/"):
            if not part:
                continue
            if not stat.S_ISDIR(place.entry.mode):
                return None
            entry = place.catalog.directory(place.number).find(part)
            if entry is None:
                return None
            place = self.place(entry, place.catalog)
        return place

    def entries(self, place: Place) -> list[Entry]:
        """A directory's entries."""
        return place.catalog.directory(place.number).entries

    def content(self, entry: Entry) -> Iterator[bytes]:
        """A file's bytes, an object at a time."""
        if entry.whole:
            yield self.read(entry.whole)
        elif entry.chunk_list:
            chunks = ChunkList(self.read(entry.chunk_list), entry.size, entry.detail)
            for index in range(len(chunks)):
                yield self.read(chunks.chunk(index))

    def file(self, path: str) -> bytes:
        """A whole file; raises NotFound if there is none."""
        place = self.find(path)
        if place is None or not place.entry.is_file:
            raise NotFound(f"{path} is not a file of the repository")
        return b"".join(self.content(place.entry))

    def inode(self, entry: Entry, catalog: Catalog, index: int) -> Inode:
        """The entry as a publisher's inode, with the totals of a nested catalog."""
        totals = dict(catalog.header.nested).get(index) if entry.nested else None
        return from_entry(entry, totals)
