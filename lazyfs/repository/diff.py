"""The differences between two trees, images or whole revisions. Equal catalogs are not opened."""

import stat
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.errors import UsageError
from lazyfs.core.profile import without_hint
from lazyfs.repository.stored_tree import StoredTree, TreeNode

FIELDS = ("uid", "gid", "mtime", "size", "xattrs")
MAX_LINKS = 40


class Difference(NamedTuple):
    """One path that differs between two trees."""

    kind: str
    """`added`, `removed` or `changed`."""
    path: bytes
    fields: tuple[str, ...]
    """The changed fields among type, mode, uid, gid, mtime, size, content, target, device and xattrs."""


class ResolvedPath(NamedTuple):
    """A path of a tree, and the node that it leads to."""

    tree: StoredTree
    node: TreeNode
    path: str = ""
    """The path with its links followed."""


def resolve(tree: StoredTree, path: str) -> ResolvedPath:
    """Follows the links at a path of the repository, such as an image's name. Raises UsageError if the path
    leads nowhere."""
    for _ in range(MAX_LINKS):
        found = tree.find(path)
        if found is None:
            raise UsageError(f"{path} is not in this revision of the repository")
        if not found.entry.is_link:
            return ResolvedPath(tree, found, path)
        parts = path.split("/")[:-1]
        for part in found.entry.content.decode(errors="surrogateescape").split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        path = "/".join(parts)
    raise UsageError(f"{path} leads through more than {MAX_LINKS} links")


def diff(old: ResolvedPath, new: ResolvedPath) -> Iterator[Difference]:
    """Yields the differences between `old` and `new`, directory by directory, in each sorted by name.

    Everything below a directory that was added or removed is a difference of its own.
    """
    fields = _fields(old.node.entry, new.node.entry)
    if fields:
        yield Difference("changed", b".", fields)
    yield from _below(old, new, b"")


def _below(old: ResolvedPath | None, new: ResolvedPath | None, prefix: bytes) -> Iterator[Difference]:
    if old and new and _same_catalog(old.node, new.node):
        return
    before = {entry.name: entry for entry in old.tree.entries(old.node)} if old else {}
    after = {entry.name: entry for entry in new.tree.entries(new.node)} if new else {}
    for name in sorted(before.keys() | after.keys()):
        path = prefix + name
        first, second = before.get(name), after.get(name)
        if first is None or second is None:
            yield Difference("removed" if second is None else "added", path, ())
        else:
            fields = _fields(first, second)
            if fields:
                yield Difference("changed", path, fields)
        inner_old = _inner(old, first)
        inner_new = _inner(new, second)
        if inner_old or inner_new:
            yield from _below(inner_old, inner_new, path + b"/")


def _inner(side: ResolvedPath | None, entry: Entry | None) -> ResolvedPath | None:
    if side is None or entry is None or not entry.is_dir:
        return None
    return ResolvedPath(side.tree, side.tree.node(entry, side.node.catalog))


def _same_catalog(old: TreeNode, new: TreeNode) -> bool:
    return old.entry.nested is not None and old.entry.nested == new.entry.nested


def _fields(old: Entry, new: Entry) -> tuple[str, ...]:
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return ("type",)
    changed = ["mode"] if old.mode != new.mode else []
    changed += [field for field in FIELDS if getattr(old, field) != getattr(new, field)]
    if old.nested and new.nested and without_hint(old.xattrs) == without_hint(new.xattrs):
        changed = [field for field in changed if field != "xattrs"]
    if not old.is_dir and (old.content, old.detail) != (new.content, new.detail):
        changed.append("content" if old.is_file else "target" if old.is_link else "device")
    return tuple(changed)
