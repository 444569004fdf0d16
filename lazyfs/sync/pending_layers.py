"""Layers of images that are not committed yet, kept so that a run reads no layer twice.

`TreeWithPending` finds them beside the layers of its revision. Two images that are read at the same time may
share a layer that the tree lacks. Then the layer is claimed for one of them and read once; the other image
waits, and gets the layer from here.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import TransportError
from lazyfs.core.tree_paths import layer_path
from lazyfs.repository.stored_tree import StoredTree, TreeNode


class PendingLayers:
    """The layers prepared since the last commit, and those being read. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._snapshots: dict[str, Inode] = {}
        self._claimed: set[Digest] = set()

    def add(self, changes: Mapping[str, Inode]) -> None:
        """Adds the layers that are among the changes for a prepared image."""
        with self._changed:
            for path, inode in changes.items():
                if path.startswith(".layers/"):
                    self._snapshots[path] = inode

    def find(self, path: str) -> Inode | None:
        """Returns the snapshot of the layer that was prepared for a path in the tree; None if there is
        none."""
        with self._changed:
            return self._snapshots.get(path)

    @contextmanager
    def claim(self, tree: StoredTree, diff_ids: Iterable[Digest], patience: float) -> Iterator[None]:
        """Claims, for the block, the layers that the tree lacks. Waits until nobody else holds a claim on any
        of them, and then claims all at once, so that two images never wait for each other. Raises
        TransportError after waiting `patience` seconds."""
        with self._changed:
            wanted: set[Digest] = set()

            def free() -> bool:
                wanted.clear()
                wanted.update(one for one in set(diff_ids) if not self._has(tree, one))
                return not wanted & self._claimed

            if not self._changed.wait_for(free, patience):
                layer = min(wanted & self._claimed)
                raise TransportError(
                    f"its layer sha256:{layer.hex()} is still being read for another image after "
                    f"{patience / 60:.0f} minutes: the next run goes on"
                )
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
    """The tree of a revision, in which the pending layers are found too."""

    def __init__(self, read: Callable[[ObjectRef], bytes], root: ObjectRef, pending: PendingLayers) -> None:
        super().__init__(read, root)
        self._pending = pending

    def find(self, path: str) -> TreeNode | None:
        parts = path.split("/", 3)
        top = self._pending.find("/".join(parts[:3])) if parts[0] == ".layers" else None
        if top is None or top.nested is None:
            return super().find(path)
        catalog = self.catalog(top.nested.ref)
        return self.find_below(TreeNode(catalog.root, catalog, 0), "/".join(parts[3:]))

    def inode_at(self, path: str) -> Inode | None:
        return self._pending.find(path) or super().inode_at(path)
