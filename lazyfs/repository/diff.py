"""What differs between two trees: images, or whole revisions. Equal catalogs are not opened."""

import stat
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.errors import UsageError
from lazyfs.core.profile import without_hint
from lazyfs.repository.stored_tree import Place, StoredTree

FIELDS = ("uid", "gid", "mtime", "size", "xattrs")
MAX_LINKS = 40


class Change(NamedTuple):
    """One path that differs."""

    kind: str
    """`added`, `removed` or `changed`."""
    path: bytes
    fields: tuple[str, ...]
    """What changed: type, mode, uid, gid, mtime, size, content, target, device, xattrs."""


class Side(NamedTuple):
    """One of the two trees."""

    tree: StoredTree
    place: Place
    path: str = ""
    """Where a path that was resolved has led to."""


def resolve(tree: StoredTree, path: str) -> Side:
    """A path of the repository, a link at it followed (an image's name is one). Raises UsageError."""
    for _ in range(MAX_LINKS):
        found = tree.find(path)
        if found is None:
            raise UsageError(f"{path} is not in this revision of the repository")
        if not found.entry.is_link:
            return Side(tree, found, path)
        parts = path.split("/")[:-1]
        for part in found.entry.content.decode(errors="surrogateescape").split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        path = "/".join(parts)
    raise UsageError(f"{path} leads through more than {MAX_LINKS} links")


def diff(old: Side, new: Side) -> Iterator[Change]:
    """The changes from `old` to `new`, sorted by path within each directory. What is below an added or
    removed directory is listed too."""
    fields = _fields(old.place.entry, new.place.entry)
    if fields:
        yield Change("changed", b".", fields)
    yield from _below(old, new, b"")


def _below(old: Side | None, new: Side | None, prefix: bytes) -> Iterator[Change]:
    if old and new and _same_catalog(old.place, new.place):
        return
    before = {entry.name: entry for entry in old.tree.entries(old.place)} if old else {}
    after = {entry.name: entry for entry in new.tree.entries(new.place)} if new else {}
    for name in sorted(before.keys() | after.keys()):
        path = prefix + name
        first, second = before.get(name), after.get(name)
        if first is None or second is None:
            yield Change("removed" if second is None else "added", path, ())
        else:
            fields = _fields(first, second)
            if fields:
                yield Change("changed", path, fields)
        inner_old = _inner(old, first)
        inner_new = _inner(new, second)
        if inner_old or inner_new:
            yield from _below(inner_old, inner_new, path + b"/")


def _inner(side: Side | None, entry: Entry | None) -> Side | None:
    if side is None or entry is None or not entry.is_dir:
        return None
    return Side(side.tree, side.tree.place(entry, side.place.catalog))


def _same_catalog(old: Place, new: Place) -> bool:
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
