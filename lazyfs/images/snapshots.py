"""A finished tree becomes a snapshot that can be put into a repository."""

import stat

from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.core.profile import without_hint
from lazyfs.store.ingest import Ingest


def snapshot(root: Inode, params: Params, ingest: Ingest) -> Inode:
    """Writes the catalogs of the tree; returns the directory to put into a repository, with the root's
    attributes.
    """
    nested = build(root, params.catalog_entries, ingest.put_named)
    return Inode(
        root.mode,
        uid=root.uid,
        gid=root.gid,
        mtime=root.mtime,
        flags=root.flags,
        xattrs=without_hint(root.xattrs),
        nested=nested,
    )


def tree_of(records: list[Record]) -> Inode:
    """Returns the tree that the records of one archive or directory make."""
    merge = Merge()
    for record in records:
        merge.apply(record)
    return merge.root


def directory_of_files(files: dict[bytes, bytes], mtime: int, ingest: Ingest) -> Inode:
    """Writes small files, each as one object; returns the directory that holds them."""
    root = Inode(stat.S_IFDIR | 0o755, mtime=mtime)
    assert root.children is not None
    for name, data in files.items():
        content = ingest.put(data).digest if data else b""
        root.children[name] = Inode(stat.S_IFREG | 0o644, mtime=mtime, size=len(data), content=content)
    return root


def link(target: str, mtime: int) -> Inode:
    """Returns a symbolic link."""
    encoded = target.encode()
    return Inode(stat.S_IFLNK | 0o777, mtime=mtime, size=len(encoded), content=encoded)
