"""The tree of a revision, read from its store: paths, files and catalogs, every object verified."""

import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.inode import Inode, from_entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError, NotFound
from lazyfs.core.pack import PackTable

MOST = 16 << 20
"""The largest number of bytes of a file that is read whole; registries allow at most 4 MiB for a manifest or
a config."""


class TreeNode(NamedTuple):
    """A file, link or directory of the tree; for a directory, also where its children are listed."""

    entry: Entry
    catalog: Catalog
    """The catalog that holds the children; for anything but a directory, the one that holds the entry."""
    number: int
    """The directory's number in `catalog`; -1 for anything but a directory."""


class StoredTree:
    """The tree below one root catalog."""

    def __init__(self, read: Callable[[ObjectRef], bytes], root: ObjectRef) -> None:
        """`read` returns an object's verified plaintext (`store.reader`)."""
        self.read = read
        self.root_ref = root

    def catalog(self, ref: ObjectRef) -> Catalog:
        """Reads and parses a catalog. Raises FormatError, and as `read`."""
        return Catalog(self.read(ref))

    def below(self, ref: ObjectRef) -> "StoredTree":
        """Returns the tree below another catalog of the same store."""
        return StoredTree(self.read, ref)

    def root(self) -> TreeNode:
        """Returns the root directory."""
        catalog = self.catalog(self.root_ref)
        return TreeNode(catalog.root, catalog, 0)

    def node(self, entry: Entry, catalog: Catalog) -> TreeNode:
        """Returns the node of an entry of `catalog`; a nested catalog is read."""
        if entry.nested:
            return TreeNode(entry, self.catalog(entry.nested), 0)
        return TreeNode(entry, catalog, entry.detail if entry.is_dir else -1)

    def find(self, path: str) -> TreeNode | None:
        """Returns the node at a path below the root, or None; links are not followed."""
        return self.find_below(self.root(), path)

    def find_below(self, node: TreeNode, path: str) -> TreeNode | None:
        """Returns the node at a path below `node`, or None; links are not followed."""
        for part in path.encode(errors="surrogateescape").split(b"/"):
            if not part:
                continue
            if not stat.S_ISDIR(node.entry.mode):
                return None
            entry = node.catalog.directory(node.number).find(part)
            if entry is None:
                return None
            node = self.node(entry, node.catalog)
        return node

    def inode_at(self, path: str) -> Inode | None:
        """Returns the link or snapshot at a path as a publisher's inode; None if nothing is there."""
        folder, _, name = path.rpartition("/")
        node = self.find(folder)
        if node is None or not node.entry.is_dir:
            return None
        directory = node.catalog.directory(node.number)
        entry = directory.find(name.encode(errors="surrogateescape"))
        if entry is None:
            return None
        return self.inode(entry, node.catalog, directory.index(entry.name))

    def entries(self, node: TreeNode) -> list[Entry]:
        """Returns a directory's entries."""
        return node.catalog.directory(node.number).entries

    def content(self, node: TreeNode) -> Iterator[bytes]:
        """Yields a file's bytes, an object at a time."""
        yield from self.bytes_of(node.entry, node.catalog.packs)

    def bytes_of(self, entry: Entry, packs: PackTable) -> Iterator[bytes]:
        """Yields the bytes of a file that may lie in one of `packs`, an object at a time."""
        place = entry.place(packs)
        if place:
            yield self.read(place.ref)[place.start : place.start + place.length]
        elif entry.size:
            chunks = entry.chunks
            if chunks is None:
                assert entry.chunk_list is not None
                chunks = ChunkList(self.read(entry.chunk_list), entry.size, entry.detail)
            for index in range(len(chunks)):
                yield self.read(chunks.chunk(index))

    def file(self, path: str) -> bytes:
        """Returns the content of a small file, such as an image's manifest. Raises NotFound if there is no
        such file, FormatError if it has more than MOST bytes, and as `content`."""
        node = self.find(path)
        if node is None or not node.entry.is_file:
            raise NotFound(f"{path} is not a file of the repository")
        if node.entry.size > MOST:
            raise FormatError(
                f"{path} has {node.entry.size} bytes; a file that describes an image has {MOST} at most"
            )
        return b"".join(self.content(node))

    def inode(self, entry: Entry, catalog: Catalog, index: int) -> Inode:
        """Returns an entry as a publisher's inode; for a nested catalog, with the catalog's totals. `index`:
        the entry's number in `catalog`."""
        totals = None
        if entry.nested:
            nested = catalog.header.nested  # sorted; a dictionary for each of 10,000 images takes minutes
            at = bisect_left(nested, index, key=lambda pair: pair[0])
            totals = nested[at][1] if at < len(nested) and nested[at][0] == index else None
        return from_entry(entry, totals, catalog.packs)
