"""Layers of images that are not committed yet, so that a run reads no layer twice.

`TreeWithPending` finds them beside the layers of its revision. If two images that are read side by side share
a layer which the tree lacks, a claim lets one read the layer; the other waits and takes it from there.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.tree_paths import layer_path
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store import Store, reader


class PendingLayers:
    """The layers prepared since the last commit, and those being read. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._snapshots: dict[str, Inode] = {}
        self._claimed: set[Digest] = set()

    def add(self, changes: Mapping[str, Inode]) -> None:
        """Takes the layers among the changes of a prepared image."""
        with self._changed:
            for path, inode in changes.items():
                if path.startswith(".layers/"):
                    self._snapshots[path] = inode

    def find(self, path: str) -> Inode | None:
        """Returns the snapshot prepared for a path."""
        with self._changed:
            return self._snapshots.get(path)

    @contextmanager
    def claim(self, tree: StoredTree, diff_ids: Iterable[Digest]) -> Iterator[None]:
        """Holds the layers that the tree lacks, once nobody else holds any of them. They are taken all at
        once, so that two images never wait for each other."""
        with self._changed:
            wanted: set[Digest] = set()

            def free() -> bool:
                wanted.clear()
                wanted.update(one for one in set(diff_ids) if not self._has(tree, one))
                return not wanted & self._claimed

            self._changed.wait_for(free)
            self._claimed |= wanted
        try:
            yield
        finally:
            with self._changed:
                self._claimed -= wanted
                self._changed.notify_all()

    def _has(self, tree: StoredTree, diff_id: Digest) -> bool:
        path = layer_path(diff_id)
        return path in self._snapshots or tree.find(path) is not None


class TreeWithPending(StoredTree):
    """A revision's tree in which the pending layers are found too."""

    def __init__(self, store: Store, root: ObjectRef, pending: PendingLayers) -> None:
        super().__init__(reader(store), root)
        self._pending = pending

    def find(self, path: str) -> TreeNode | None:
        parts = path.split("/", 3)
        top = self._pending.find("/".join(parts[:3])) if parts[0] == ".layers" else None
        if top is None or top.nested is None:
            return super().find(path)
        catalog = self.catalog(top.nested.ref)
        return self.find_below(TreeNode(catalog.root, catalog, 0), "/".join(parts[3:]))
