"""The differences between two trees, images or whole revisions. Equal catalogs are not opened."""

import stat
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import ObjectRef
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
    """The attributes that changed, out of type, mode, uid, gid, mtime, size, content, target, device and
    xattrs."""
    same_below: bytes | None = None
    """Another path, already reported, below which the differences are the same. They are not repeated for
    this path."""


class ResolvedPath(NamedTuple):
    """A path of a tree, and the node that it leads to."""

    tree: StoredTree
    node: TreeNode
    path: str = ""
    """The path with its links followed."""


def resolve(tree: StoredTree, path: str) -> ResolvedPath:
    """Returns the node that a path of the repository, such as an image's name, leads to; links are followed.
    Raises UsageError if the path leads nowhere."""
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
    """Yields the differences between `old` and `new`, directory by directory, sorted by name in each
    directory.

    Everything below a directory that was added or removed is a difference of its own. If two catalogs were
    compared before, at another path, they are not compared again: a single difference names the other path in
    `same_below`. So the answer is short even for a tree that names everything twice at each of 40 levels.
    """
    fields = _fields(old.node.entry, new.node.entry)
    if fields:
        yield Difference("changed", b".", fields)
    yield from _Comparison().walk(_Pair(_side(old), _side(new)), b"")


class _Side(NamedTuple):
    """A directory of one of the two trees."""

    tree: StoredTree
    node: TreeNode
    catalog: ObjectRef | int
    """The digest and size of the catalog that holds the directory's entries. For the outermost catalog, a
    number that identifies it only in this comparison."""


class _Pair(NamedTuple):
    """The directories at one path in the old and the new tree; None for a tree that has no directory
    there."""

    old: _Side | None
    new: _Side | None

    @property
    def key(self) -> tuple[object, ...]:
        """The identity of the pair: the catalogs of the two directories, and the directories' numbers in
        them."""
        return tuple(side and (side.catalog, side.node.number) for side in self)

    @property
    def crosses(self) -> bool:
        """True if one of the directories is the top of a nested catalog: only such a pair can recur at
        another path."""
        return any(side and side.node.entry.nested for side in self)

    @property
    def same(self) -> bool:
        """True if both directories are the top of the same nested catalog."""
        return bool(self.old and self.new and self.old.node.entry.nested and self.key[0] == self.key[1])


class _Level(NamedTuple):
    """A directory whose names are being compared."""

    steps: Iterator[Difference | tuple[bytes, _Pair]]
    pair: _Pair
    path: bytes
    found: int
    """Number of differences found before this directory was entered."""


class _Comparison:
    """One walk over two trees, without recursion: catalogs may be nested thousands deep."""

    def __init__(self) -> None:
        self._found = 0
        self._compared: dict[tuple[object, ...], tuple[bytes, bool]] = {}
        """Maps the key of a pair to the path at which the pair was compared, and to True if its directories
        differed."""

    def walk(self, pair: _Pair, path: bytes) -> Iterator[Difference]:
        if pair.same:
            return
        stack = [self._level(pair, path)]
        while stack:
            step = next(stack[-1].steps, None)
            if step is None:
                level = stack.pop()
                if level.pair.crosses:
                    self._compared[level.pair.key] = (level.path, self._found > level.found)
            elif isinstance(step, Difference):
                self._found += 1
                yield step
            else:
                path, pair = step
                before = self._compared.get(pair.key) if pair.crosses else None
                if before is None:
                    stack.append(self._level(pair, path))
                elif before[1]:
                    self._found += 1
                    yield Difference("changed", path, (), before[0])

    def _level(self, pair: _Pair, path: bytes) -> _Level:
        return _Level(_steps(pair, path + b"/" if path else b""), pair, path, self._found)


def _steps(pair: _Pair, prefix: bytes) -> Iterator[Difference | tuple[bytes, _Pair]]:
    """Yields the differences between the entries of two directories, and, for each subdirectory, its path and
    its pair."""
    old, new = pair
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
        if first and second and first.nested and first.nested == second.nested:
            continue
        inner = _Pair(_inner(old, first), _inner(new, second))
        if inner.old or inner.new:
            yield path, inner


def _side(found: ResolvedPath) -> _Side:
    return _Side(found.tree, found.node, found.node.entry.nested or id(found.node.catalog))


def _inner(side: _Side | None, entry: Entry | None) -> _Side | None:
    if side is None or entry is None or not entry.is_dir:
        return None
    node = side.tree.node(entry, side.node.catalog)
    return _Side(side.tree, node, entry.nested or side.catalog)


def _fields(old: Entry, new: Entry) -> tuple[str, ...]:
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return ("type",)
    changed = ["mode"] if old.mode != new.mode else []
    changed += [field for field in FIELDS if getattr(old, field) != getattr(new, field)]
    if old.nested and new.nested and without_hint(old.xattrs) == without_hint(new.xattrs):
        changed = [field for field in changed if field != "xattrs"]
    if not old.is_dir and _content(old) != _content(new):
        changed.append("content" if old.is_file else "target" if old.is_link else "device")
    return tuple(changed)


def _content(entry: Entry) -> tuple[bytes, int]:
    """Returns the identity of an entry's content, which does not depend on the pack that holds a small
    file."""
    packed = entry.pack_number >= 0
    return entry.content_id if entry.is_file else entry.content, 0 if packed else entry.detail
