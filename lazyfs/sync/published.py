"""The links that lead from images' names to their trees, in one revision. Each folder of the revision is read
once."""

from lazyfs.core.catalog.entry import Entry
from lazyfs.repository.stored_tree import StoredTree, TreeNode


class Published:
    """The links of one revision. Not safe for several threads."""

    def __init__(self, tree: StoredTree) -> None:
        self._tree = tree
        self._folders: dict[str, TreeNode | None] = {"": tree.root()}
        self._names: dict[str, dict[bytes, Entry]] = {}

    def entry(self, path: str) -> Entry | None:
        """Returns the entry at a path, without following links; None if there is none."""
        folder, _, name = path.rpartition("/")
        return self._children(folder).get(name.encode(errors="surrogateescape"))

    def target(self, path: str) -> str | None:
        """Returns the name of the tree that the link at a path leads to; None if there is no link at the
        path."""
        entry = self.entry(path)
        if entry is None or not entry.is_link:
            return None
        return entry.content.decode(errors="replace").rpartition("/")[2]

    def _children(self, folder: str) -> dict[bytes, Entry]:
        names = self._names.get(folder)
        if names is None:
            node = self._folder(folder)
            entries = self._tree.entries(node) if node else []
            names = self._names[folder] = {entry.name: entry for entry in entries}
        return names

    def _folder(self, path: str) -> TreeNode | None:
        if path not in self._folders:
            above, _, name = path.rpartition("/")
            node = self._folder(above)
            entry = self._children(above).get(name.encode(errors="surrogateescape")) if node else None
            found = None
            if node is not None and entry is not None and entry.is_dir:
                found = self._tree.node(entry, node.catalog)
            self._folders[path] = found
        return self._folders[path]
