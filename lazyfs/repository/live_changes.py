"""The differences between the live folders of two revisions: the images and trees that came, went or moved.

Equal folders are not opened, nor is any image, so the cost grows with the change.
"""

import posixpath
from collections.abc import Iterator

from lazyfs.core import profile
from lazyfs.core.catalog.entry import LIVE, Entry
from lazyfs.core.digest import ObjectRef
from lazyfs.core.history.records import Change
from lazyfs.core.params import FLAT
from lazyfs.core.tree_paths import INTERNAL
from lazyfs.repository.stored_tree import StoredTree


def live_changes(old: StoredTree, new: StoredTree) -> list[Change]:
    """Returns the changes from one revision to another, by path. Raises as StoredTree.read."""
    return sorted(_folder(old, new, old.root_ref, new.root_ref, b""), key=lambda change: change.path)


def _folder(
    old: StoredTree, new: StoredTree, before: ObjectRef | None, after: ObjectRef | None, path: bytes
) -> Iterator[Change]:
    stack = [(before, after, path)]
    while stack:
        before, after, path = stack.pop()
        if before == after:
            continue
        there, here = _entries(old, before), _entries(new, after)
        for name in sorted(there.keys() | here.keys()):
            first, second = there.get(name), here.get(name)
            if not path and name in INTERNAL - {FLAT}:
                continue
            place = path + b"/" + name if path else name
            folders = (_live(first), _live(second))
            if any(folders):
                stack.append((*folders, place))
            hidden = path == FLAT or path.startswith(FLAT + b"/")
            was, now = (_profile if hidden else _identity)(first), (_profile if hidden else _identity)(second)
            if was != now:
                yield Change(place, was, now)


def _entries(tree: StoredTree, folder: ObjectRef | None) -> dict[bytes, Entry]:
    if folder is None:
        return {}
    return {entry.name: entry for entry in tree.catalog(folder).directory(0).entries}


def _live(entry: Entry | None) -> ObjectRef | None:
    return entry.nested if entry and entry.flags & LIVE else None


def _identity(entry: Entry | None) -> bytes:
    """Returns the identity of an image or tree. For a link it is the last part of the target, as raw bytes if
    that part is a digest; for a tree it is the digest of the catalog. Empty for a folder, and if nothing is
    there."""
    if entry is None or entry.flags & LIVE:
        return b""
    if entry.nested:
        return entry.nested.digest
    last = posixpath.basename(entry.content) if entry.is_link else entry.content
    try:
        return bytes.fromhex(last.decode()) if len(last) == 64 else last[:32]
    except ValueError:
        return last[:32]


def _profile(entry: Entry | None) -> bytes:
    """Returns the digest of the profile that the tree at this entry has; empty if it has none."""
    found = profile.hinted(entry) if entry else None
    return found.digest if found else b""
