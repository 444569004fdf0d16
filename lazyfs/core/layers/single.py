"""One layer by itself, as an overlay filesystem would keep it."""

import stat

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import FormatError
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Kind, Record

OPAQUE_XATTRS = ((b"trusted.overlay.opaque", b"y"), (b"user.overlay.opaque", b"y"))
"""Attributes of an opaque directory. Rootless overlay mounts read the second one and ignore the first."""


def single(records: list[Record]) -> Inode:
    """Returns the layer's own tree: whiteouts as character devices 0:0, opaque directories with overlayfs's
    attributes. Hard links to files of lower layers are left out; links of lower layers on an entry's path
    become directories."""
    merge = Merge()
    for record in records:
        if record.kind == Kind.INODE:
            merge.apply(record)
        elif record.kind == Kind.HARDLINK:
            try:
                merge.apply(record)
            except FormatError:
                continue
    for record in records:
        if record.kind == Kind.OPAQUE:
            directory = _directory(merge.root, record.path)
            if directory is not None:
                _make_opaque(directory)
        elif record.kind == Kind.WHITEOUT:
            parent, _, name = record.path.rpartition(b"/")
            holder = _directory(merge.root, parent)
            if holder is None or holder.children is None:
                continue
            present = holder.children.get(name)
            if present is None:
                holder.children[name] = Inode(stat.S_IFCHR)
            elif present.is_dir:
                _make_opaque(present)
    return merge.root


def _directory(root: Inode, path: bytes) -> Inode | None:
    """Returns the directory at a path, and makes it if nothing is there. Returns None if a link or a file
    stands at the path or above it."""
    directory = root
    for name in filter(None, path.split(b"/")):
        assert directory.children is not None
        child = directory.children.setdefault(name, Inode(stat.S_IFDIR | 0o755))
        if child.children is None:
            return None
        directory = child
    return directory


def _make_opaque(directory: Inode) -> None:
    own = tuple(pair for pair in directory.xattrs if pair[0] not in dict(OPAQUE_XATTRS))
    directory.xattrs = tuple(sorted(own + OPAQUE_XATTRS))
