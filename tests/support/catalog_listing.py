"""A published tree, read straight from its catalogs and described in the terms of `tests.support.trees`."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from lazyfs.core.catalog.entry import ADDED, Entry
from lazyfs.core.digest import ObjectRef, ObjectSlice
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store import open_store, reader

_KINDS = {
    stat.S_IFREG: b"f",
    stat.S_IFDIR: b"d",
    stat.S_IFLNK: b"l",
    stat.S_IFCHR: b"c",
    stat.S_IFBLK: b"b",
    stat.S_IFIFO: b"p",
}


def open_tree(store: Path) -> StoredTree:
    """Opens the tree of the committed revision."""
    opened = open_store(str(store))
    revision = read_revision(opened)
    return StoredTree(reader(opened), revision.root)


class Listed:
    """Everything below one path of a published tree, except entries that the publisher added."""

    def __init__(self, tree: StoredTree, path: str) -> None:
        self._tree = tree
        found = tree.find(path)
        assert found is not None, path
        self.root = found.entry
        self.entries: dict[bytes, Entry] = {}
        self._nodes: dict[bytes, TreeNode] = {}
        self._packs: dict[ObjectRef, bytes] = {}
        self.groups: dict[tuple[object, ...], set[bytes]] = {}
        for name, node, key in _walk(tree, found, b""):
            self._nodes[name] = node
            self.entries[name] = node.entry
            if key:
                self.groups.setdefault(key, set()).add(name)

    def listing(self) -> dict[bytes, bytes]:
        """Describes each entry as `trees.listing` does."""
        return {path: _line(entry) for path, entry in self.entries.items()}

    def hardlink_groups(self) -> set[frozenset[bytes]]:
        """Groups hardlinks as `trees.hardlink_groups` does."""
        return {frozenset(names) for names in self.groups.values() if len(names) > 1}

    def xattrs(self) -> dict[bytes, dict[str, bytes]]:
        """Returns extended attributes as `trees.xattrs` does."""
        return {
            path: {name.decode(): value for name, value in entry.xattrs}
            for path, entry in self.entries.items()
            if entry.xattrs
        }

    def read(self, path: bytes) -> bytes:
        """Returns the content of a file."""
        node = self._nodes[path]
        place = node.entry.place(node.catalog.packs)
        if place is None or node.entry.pack_number < 0:
            return b"".join(self._tree.content(node))
        if place.ref not in self._packs:
            self._packs[place.ref] = self._tree.read(place.ref)
        return self._packs[place.ref][place.start : place.start + place.length]

    def place(self, path: bytes) -> ObjectSlice | None:
        """Returns where a file's content lies: an object, and the range in it. Returns None for a file of
        several chunks."""
        node = self._nodes[path]
        return node.entry.place(node.catalog.packs)

    def digests(self) -> dict[bytes, str]:
        """Returns digests as `trees.digests` does."""
        return {
            path: hashlib.sha256(self.read(path)).hexdigest()
            for path, entry in self.entries.items()
            if entry.is_file
        }


def _walk(
    tree: StoredTree, node: TreeNode, prefix: bytes
) -> Iterator[tuple[bytes, TreeNode, tuple[object, ...] | None]]:
    for entry in tree.entries(node):
        path = prefix + entry.name
        if entry.flags & ADDED:
            continue
        key = None
        if entry.link:
            key = (id(node.catalog), entry.link) if entry.link > 0 else ("shared", entry.link)
        found = tree.node(entry, node.catalog)
        yield path, found, key
        if entry.is_dir:
            yield from _walk(tree, found, path + b"/")


def _line(entry: Entry) -> bytes:
    seconds, nanoseconds = divmod(entry.mtime, 1_000_000_000)
    return b" ".join(
        [
            _KINDS[stat.S_IFMT(entry.mode)],
            b"%o" % (entry.mode & 0o7777),
            b"%d" % entry.uid,
            b"%d" % entry.gid,
            b"%d" % entry.nlink,
            b"-" if entry.is_dir else b"%d" % entry.size,
            entry.content if entry.is_link else b"",
            b"%d.%09d0" % (seconds, nanoseconds),
        ]
    )
