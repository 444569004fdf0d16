"""Small trees for tests of the vfs and the sessions. They are written as nested dicts and built by the real
builder."""

import stat
from collections.abc import Mapping
from typing import Any

from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree

MTIME = 1_600_000_000_123_456_789
NO_SPLIT = 1 << 30

Spec = Mapping[str, Any]
"""Name -> content: bytes for a file, str for a symbolic link, dict for a directory, a Nested for a stored
tree, or a ready Inode."""


class Objects(dict[Digest, bytes]):
    """Objects by digest. As a LocalObjects, it has all of them available, or only those in `here`."""

    def __init__(self) -> None:
        super().__init__()
        self.namespace = b""
        self.here: set[Digest] | None = None
        self.asked = 0

    def put(self, plain: bytes) -> Digest:
        digest = sha256(plain)
        self[digest] = plain
        return digest

    def emit(self, ref: ObjectRef, plain: bytes) -> None:
        assert self.put(plain) == ref.digest
        assert len(plain) == ref.size

    def at_hand(self, ref: ObjectRef) -> bytes | None:
        self.asked += 1
        return self[ref.digest] if self.here is None or ref.digest in self.here else None

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        whole = self.at_hand(ref)
        return None if whole is None else whole[start : start + length]

    def copy_at_hand(self, *_: object) -> None:
        """Returns nothing: there are no profiles here."""


def file(objects: Objects, data: bytes, *, shift: int = 16, listed: bool = True, **fields: Any) -> Inode:
    """Returns the inode of a regular file. Content larger than one chunk of 2**shift bytes is cut into
    chunks. The chunk digests are in a chunk list object, or in the entry itself if not `listed`."""
    fields = {"mode": 0o644, "mtime": MTIME} | fields
    mode = stat.S_IFREG | fields.pop("mode")
    if not data:
        return Inode(mode, **fields)
    if len(data) <= 1 << shift:
        return Inode(mode, size=len(data), content=objects.put(data), **fields)
    digests = [objects.put(data[at : at + (1 << shift)]) for at in range(0, len(data), 1 << shift)]
    content = objects.put(ChunkList.encode(digests, len(data), shift)) if listed else b"".join(digests)
    return Inode(mode, size=len(data), content=content, detail=shift, **fields)


def packed(objects: Objects, contents: Mapping[str, bytes], **fields: Any) -> dict[str, Inode]:
    """Returns the inodes of small files that are stored one after the other in one pack."""
    fields = {"mode": 0o644, "mtime": MTIME} | fields
    mode = stat.S_IFREG | fields.pop("mode")
    plain = b"".join(contents.values())
    pack = ObjectRef(objects.put(plain), len(plain))
    made, offset = {}, 0
    for name, data in contents.items():
        own: dict[str, Any] = {"size": len(data), "content": sha256(data), "pack": pack, "offset": offset}
        made[name] = Inode(mode, **own, **fields)
        offset += len(data)
    return made


def folder(**fields: Any) -> Inode:
    """Returns the inode of an empty directory."""
    fields = {"mode": 0o755, "mtime": MTIME} | fields
    return Inode(stat.S_IFDIR | fields.pop("mode"), **fields)


def tree(objects: Objects, spec: Spec) -> Inode:
    """Returns the inode of a directory with this content."""
    root = folder()
    assert root.children is not None
    for name, what in spec.items():
        root.children[name.encode("utf-8", "surrogateescape")] = _inode(objects, what)
    return root


def _inode(objects: Objects, what: Any) -> Inode:
    if isinstance(what, Inode):
        return what
    if isinstance(what, Nested):
        return folder_of(what)
    if isinstance(what, bytes):
        return file(objects, what)
    if isinstance(what, str):
        target = what.encode("utf-8", "surrogateescape")
        return Inode(stat.S_IFLNK | 0o777, size=len(target), content=target, mtime=MTIME)
    return tree(objects, what)


def folder_of(nested: Nested) -> Inode:
    """Returns the inode of the directory at which a stored tree is mounted in another tree."""
    return Inode(stat.S_IFDIR | 0o755, mtime=MTIME, nested=nested)


def image(objects: Objects, spec: Spec, *, split: int = NO_SPLIT) -> Nested:
    """Builds a snapshot: an image or a published tree."""
    return build(tree(objects, spec), split, objects.emit)


def live(objects: Objects, spec: Spec) -> Nested:
    """Builds a live folder above images. Its directories must be Nested, or dicts, which become live folders
    too."""
    root = folder()
    assert root.children is not None
    for name, what in spec.items():
        inner = live(objects, what) if isinstance(what, dict) else what
        root.children[name.encode("utf-8", "surrogateescape")] = _inode(objects, inner)
    return build(root, NO_SPLIT, objects.emit, live=True)


def shown(objects: Objects, root: Nested) -> Tree:
    """Returns a Tree that shows `root` as the repository `test`."""
    tree = Tree(SlotTable())
    tree.show_repository(Repository("test", objects, root.ref, 1))
    return tree


def number(tree: Tree, path: str) -> int:
    """Looks up each name on a path, as the kernel does, and so holds the inode number of each. Returns the
    last number."""
    found = ROOT
    for name in path.split("/"):
        child = tree.lookup(found, name.encode())
        assert child is not None, path
        tree.hold(child.number)
        found = child.number
    return found
