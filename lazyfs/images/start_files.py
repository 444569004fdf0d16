"""Adds to a merged image what it needs to be run from a read-only root: bind points (directories for a
runtime's binds) and start-up files (Apptainer's `.singularity.d`)."""

import stat
from collections.abc import Iterable

from lazyfs.core.catalog.entry import ADDED
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.oci.manifest import Config
from lazyfs.core.oci.start_files import Addition, additions
from lazyfs.store.ingest import Ingest


def add(root: Inode, config: Config, ingest: Ingest, bind_points: Iterable[str] = ()) -> None:
    """Adds bind points and start-up files to the tree at `root`, with the flag ADDED. Existing entries are
    kept; what would lie behind a link is left out. `bind_points`: directories to add besides the standard
    bind points, relative to the root."""
    for addition in additions(config, bind_points):
        _add(root, addition, config.created_ns, ingest)


def _add(root: Inode, addition: Addition, mtime: int, ingest: Ingest) -> None:
    *parents, name = addition.path.encode().split(b"/")
    directory = root
    for part in parents:
        assert directory.children is not None
        child = directory.children.get(part)
        if child is None:
            child = directory.children[part] = Inode(stat.S_IFDIR | 0o755, mtime=mtime, flags=ADDED)
        if child.children is None:
            return
        directory = child
    assert directory.children is not None
    if name in directory.children:
        return
    inode = Inode(addition.mode, mtime=mtime, flags=ADDED)
    if not inode.is_dir:
        inode.size = len(addition.data)
        if stat.S_ISLNK(addition.mode):
            inode.content = addition.data
        elif addition.data:
            inode.content = ingest.put(addition.data).digest
    directory.children[name] = inode
