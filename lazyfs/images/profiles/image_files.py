"""The files of a published tree, found by path as a program inside it would find them."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.pack import PackTable
from lazyfs.repository.stored_tree import StoredTree, TreeNode

AT_HAND = 8
"""The largest number of objects whose bytes are kept: a file is looked at in many small reads."""
LINKS = 40
"""The largest number of links that are followed on the way to one file, as in the kernel."""


class ImageFile(NamedTuple):
    """A file or directory of a tree."""

    path: bytes
    """The path with its links followed, without a leading /."""
    entry: Entry
    packs: PackTable


class ObjectPart(NamedTuple):
    """The bytes of a file that lie in one object."""

    ref: ObjectRef
    length: int


class ImageFiles:
    """The files below one top catalog. Each catalog is read once."""

    def __init__(self, tree: StoredTree, top: ObjectRef) -> None:
        """`tree`: any tree of the store that holds the catalog."""
        self._tree = tree.below(top)
        self._read = lru_cache(AT_HAND)(tree.read)
        self._catalogs: dict[ObjectRef, Catalog] = {}
        self._root = TreeNode(self._catalog(top).root, self._catalog(top), 0)

    def find(self, path: bytes, most_links: int = LINKS) -> ImageFile | None:
        """Returns the file or directory at a path, all links followed inside the tree. None if there is none,
        or if more than `most_links` links lead to it."""
        here: list[bytes] = []
        nodes = [self._root]
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                here, nodes = here[:-1], nodes[:-1] or [self._root]
                continue
            above = nodes[-1]
            entry = above.catalog.directory(above.number).find(part) if above.number >= 0 else None
            if entry is None:
                return None
            if not entry.is_link:
                here.append(part)
                nodes.append(self._node(entry, above.catalog))
                continue
            links += 1
            if links > most_links:
                return None
            if entry.content.startswith(b"/"):
                here, nodes = [], [self._root]
            waiting += entry.content.split(b"/")[::-1]
        return ImageFile(b"/".join(here), nodes[-1].entry, nodes[-1].catalog.packs)

    def file(self, path: bytes) -> ImageFile | None:
        """Returns the file at a path, all links followed inside the tree. None if there is none, or something
        else than a file."""
        found = self.find(path)
        return found if found is not None and found.entry.is_file else None

    def first_file(self, paths: Iterable[bytes]) -> ImageFile | None:
        """Returns the file at the first of the paths that has one; None if no path has."""
        return next((found for found in map(self.file, paths) if found is not None), None)

    def names(self, path: bytes) -> list[bytes]:
        """Returns the names in the directory at a path; none if it is no directory."""
        found = self.find(path)
        if found is None or not found.entry.is_dir:
            return []
        node = self._root
        for part in found.path.split(b"/") if found.path else ():
            entry = node.catalog.directory(node.number).find(part)
            assert entry is not None
            node = self._node(entry, node.catalog)
        return [entry.name for entry in self._tree.entries(node)]

    def walk(self) -> Iterator[ImageFile]:
        """Yields all files, and the directories that are catalogs of their own, the top included. If a
        catalog hangs at several paths, it is yielded at the first one only."""
        yield ImageFile(b"", self._root.entry, self._root.catalog.packs)
        seen: set[ObjectRef] = set()
        stack = [(b"", self._root)]
        while stack:
            above, node = stack.pop()
            inner = []
            for entry in self._tree.entries(node):
                path = above + b"/" + entry.name if above else entry.name
                if entry.is_file:
                    yield ImageFile(path, entry, node.catalog.packs)
                elif entry.is_dir and entry.nested not in seen:
                    if entry.nested:
                        seen.add(entry.nested)
                        yield ImageFile(path, entry, node.catalog.packs)
                    inner.append((path, self._node(entry, node.catalog)))
            stack += reversed(inner)

    def catalog_of(self, directory: ImageFile) -> ObjectRef:
        """Returns the catalog of a directory that `walk` has yielded."""
        return directory.entry.nested or self._tree.root_ref

    def parts(self, file: ImageFile) -> list[ObjectPart]:
        """Returns the objects that hold a file's bytes, in order; none for an empty file or a directory. A
        small file in a pack counts as an object of its own."""
        entry = file.entry
        if entry.is_file and entry.size and (entry.pack_number >= 0 or not entry.detail):
            return [ObjectPart(ObjectRef(Digest(entry.content), entry.size), entry.size)]
        chunks = file.entry.chunks or self._listed(file.entry)
        if chunks is None:
            return []
        refs = [chunks.chunk(index) for index in range(len(chunks))]
        return [ObjectPart(ref, ref.size) for ref in refs]

    def bytes_at(self, file: ImageFile, offset: int, length: int) -> bytes:
        """Returns `length` bytes of a file from `offset` on; fewer if the file ends before."""
        place = file.entry.place(file.packs)
        length = min(length, file.entry.size - offset)
        if length <= 0:
            return b""
        if place is not None:
            whole = self._read(place.ref)
            return whole[place.start + offset : place.start + offset + length]
        chunks = file.entry.chunks or self._listed(file.entry)
        slices = chunks.slices(offset, length) if chunks else []
        return b"".join(self._read(ref)[start : start + size] for ref, start, size in slices)

    def text(self, path: bytes, most: int) -> bytes:
        """Returns the first `most` bytes of the file at a path; empty if there is no file."""
        file = self.file(path)
        return self.bytes_at(file, 0, most) if file is not None else b""

    def _listed(self, entry: Entry) -> ChunkList | None:
        listed = entry.chunk_list
        return ChunkList(self._read(listed), entry.size, entry.detail) if listed else None

    def _node(self, entry: Entry, catalog: Catalog) -> TreeNode:
        if entry.nested:
            return TreeNode(entry, self._catalog(entry.nested), 0)
        return TreeNode(entry, catalog, entry.detail if entry.is_dir else -1)

    def _catalog(self, ref: ObjectRef) -> Catalog:
        found = self._catalogs.get(ref)
        if found is None:
            found = self._catalogs[ref] = self._tree.catalog(ref)
        return found


def touched_by(files: ImageFiles, found: ImageFile) -> list[Digest]:
    """Returns the objects that hold a file's bytes, or the catalog of a directory if the directory has its
    own. The catalogs above are left out."""
    if found.entry.is_dir:
        return [found.entry.nested.digest] if found.entry.nested else []
    return [part.ref.digest for part in files.parts(found)]
