"""Upgrades a repository of an older format version to the newest; name, keys and fingerprint stay.

The upgrade signs new parameters over the same tree. Images and trees in it stay readable as they are; each
gets the new format when it is published again.
"""

import stat
from collections.abc import Iterator
from datetime import datetime

import msgspec

from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.catalog.layout import VERSION as CATALOG_VERSION
from lazyfs.core.errors import UsageError
from lazyfs.core.params import VERSION, Revision
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.repository.diff import resolve
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store import Store


def upgrade(store: Store, keys: Keys, now: datetime) -> Revision | None:
    """Commits a revision with the newest format version; returns None if the repository has it already.

    Clients that do not know the version stay at the revision before and say why. Raises as `commit_revision`.
    """
    old = read_revision(store)
    if not old.params.is_older:
        return None
    return commit_revision(
        store,
        keys,
        old.root,
        expected_revision=old.number,
        now=now,
        params=msgspec.structs.replace(old.params, version=VERSION).check(),
    )


def older_images(tree: StoredTree) -> Iterator[str]:
    """Yields the names of images and published trees that have catalogs of an older version, in the order of
    their paths."""
    waiting = [("", tree.root())]
    while waiting:
        path, node = waiting.pop()
        if node.entry.is_dir and (not path or node.entry.flags & LIVE):
            waiting.extend(reversed(list(_shown(tree, path, node))))
        elif _version(tree, path, node) != CATALOG_VERSION:
            yield path


def _shown(tree: StoredTree, path: str, node: TreeNode) -> Iterator[tuple[str, TreeNode]]:
    """Yields the path and node of each name in a folder, except names that begin with a dot: nobody publishes
    at these."""
    for entry in tree.entries(node):
        if not entry.name.startswith(b"."):
            name = entry.name.decode(errors="surrogateescape")
            yield f"{path}/{name}" if path else name, tree.node(entry, node.catalog)


def _version(tree: StoredTree, path: str, node: TreeNode) -> int:
    """Returns the catalog version of an image or of a published tree. The image's name may be a link."""
    if stat.S_ISLNK(node.entry.mode):
        try:
            node = resolve(tree, path).node
        except UsageError:  # it leads nowhere: there is nothing to publish again
            return CATALOG_VERSION
    return node.catalog.version
