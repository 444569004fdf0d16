"""The tree of a revision while it is edited: live folders are read on demand, changed ones are written."""

import stat
from collections.abc import Callable, Collection, Iterator

from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.entry import check_name
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError, NotFound, UsageError
from lazyfs.core.params import Params
from lazyfs.core.profile import HINT, without_hint
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest

FOLDER_MODE = stat.S_IFDIR | 0o755


class _Folder:
    """A live folder that has been opened: the inode of the folder itself, and its children by name."""

    def __init__(self, inode: Inode, inner: dict[bytes, "Inode | _Folder"]) -> None:
        self.inode = inode
        self.inner = inner
        self.changed = False


class LiveTree:
    """The folders of one revision with the changes made in them so far."""

    def __init__(self, tree: StoredTree, params: Params) -> None:
        self._tree = tree
        self._ref = tree.root_ref
        self._params = params
        self._root = self._open(Inode(FOLDER_MODE), tree.root_ref)

    def put(self, path: str, inode: Inode) -> None:
        """Hangs a link, or a snapshot (an inode with `nested`), at a path; missing folders on the way are
        made.

        If a snapshot with a profile hangs there already, the new one gets this profile unless it has its own.
        Raises UsageError if the path leads through a link or snapshot, or if a folder is there.
        """
        self._hang(path, inode, _with_profile)

    def _hang(self, path: str, inode: Inode, merged: Callable[[Inode, Inode], Inode]) -> None:
        """Hangs an inode at a path. If an inode hangs there already, hangs `merged(old, new)`
        instead."""
        *parents, name = _parts(path)
        folder, above = self._root, [self._root]
        for position, part in enumerate(parents):
            child = self._child(folder, part)
            if child is None:
                # The epoch, not the clock: the same images give the same tree at any time.
                child = folder.inner[part] = _Folder(Inode(FOLDER_MODE), {})
            if not isinstance(child, _Folder):
                shown = b"/".join(parents[: position + 1]).decode(errors="replace")
                raise UsageError(f"{path}: {shown} is an image or a published tree, not a folder of them")
            folder = child
            above.append(folder)
        old = self._child(folder, name)
        if isinstance(old, _Folder):
            raise UsageError(f"{path} is a folder of images already: choose another path with --as")
        if old is not None:
            inode = merged(old, inode)
            if _same(old, inode):
                return
        folder.inner[name] = inode
        for changed in above:
            changed.changed = True

    def hint(self, path: str, catalog: ObjectRef, profile: tuple[bytes, bytes]) -> None:
        """Adds the attribute `profile` to the snapshot at a path. `catalog`: the catalog that the profile was
        made for.

        Raises UsageError if no snapshot hangs there, or if the snapshot has another catalog.
        """
        hanging = self.get(path)
        if hanging is None or not hanging.nested:
            raise UsageError(f"{path} is no image or published tree that hangs in a folder of the repository")
        if hanging.nested.ref != catalog:
            raise UsageError(
                f"{path} was published anew meanwhile: record a start of it and make its profile again"
            )
        profiled = _copy(hanging)
        profiled.xattrs = tuple(sorted([*without_hint(hanging.xattrs), profile]))
        self.put(path, profiled)

    def drop_hint(self, path: str) -> None:
        """Removes the profile of the snapshot at a path. Does nothing if no snapshot hangs there or it has no
        profile."""
        hanging = self.get(path)
        if hanging is not None and hanging.nested:
            bare = _copy(hanging)
            bare.xattrs = without_hint(hanging.xattrs)
            self._hang(path, bare, lambda _, new: new)

    def remove(self, path: str) -> bool:
        """Removes a link or snapshot, and the folders that become empty. Returns True if it existed."""
        parts = _parts(path)
        above = [self._root]
        for part in parts[:-1]:
            child = self._child(above[-1], part)
            if not isinstance(child, _Folder):
                return False
            above.append(child)
        found = self._child(above[-1], parts[-1])
        if found is None or isinstance(found, _Folder):
            return False
        for folder, part in zip(reversed(above), reversed(parts), strict=True):
            del folder.inner[part]
            if folder.inner:
                break
        for folder in above:
            folder.changed = True
        return True

    def get(self, path: str) -> Inode | None:
        """Returns the link or snapshot at a path; None if nothing or a folder is there."""
        here: Inode | _Folder | None = self._root
        for part in _parts(path):
            here = self._child(here, part) if isinstance(here, _Folder) else None
        return here if isinstance(here, Inode) else None

    def hanging(self, passed_over: Collection[bytes] = ()) -> Iterator[tuple[str, Inode]]:
        """Yields every link and snapshot with its path. `passed_over`: names of top folders to skip."""
        stack = [("", self._root)]
        while stack:
            path, folder = stack.pop()
            for name in sorted(folder.inner):
                if not path and name in passed_over:
                    continue
                child = self._child(folder, name)
                below = f"{path}/" if path else ""
                at = below + name.decode(errors="surrogateescape")
                if isinstance(child, _Folder):
                    stack.append((at, child))
                elif child is not None:
                    yield at, child

    def snapshot_file(self, path: str, name: str) -> bytes | None:
        """Returns the content of the file `name` in the top directory of the snapshot at a path; None if
        there is no such file. Raises as `StoredTree.file`."""
        inode = self.get(path)
        if inode is None or not inode.nested:
            return None
        try:
            return self._tree.below(inode.nested.ref).file(name)
        except NotFound:
            return None

    def write(self, ingest: Ingest) -> ObjectRef:
        """Writes the catalogs of changed folders, inner ones first, and returns the reference of the root
        catalog."""
        if not self._root.changed:
            return self._ref
        order = [self._root]
        for folder in order:
            order.extend(child for child in folder.inner.values() if isinstance(child, _Folder))
        made: dict[int, Inode] = {}
        for folder in reversed(order):
            inode = folder.inode
            if folder.changed:
                inode = _copy(inode)
                inode.children = {
                    name: made[id(child)] if isinstance(child, _Folder) else child
                    for name, child in folder.inner.items()
                }
                nested = build(inode, self._params.catalog_entries, ingest.put_named, live=True)
                self._ref = nested.ref
                inode = _copy(inode)
                inode.nested, inode.children = nested, None
            made[id(folder)] = inode
        return self._ref

    def _child(self, folder: _Folder, name: bytes) -> "Inode | _Folder | None":
        """Returns the child of this name, opened if it is a folder; None if there is none."""
        child = folder.inner.get(name)
        if isinstance(child, Inode) and child.nested and child.nested.live:
            child = folder.inner[name] = self._open(child, child.nested.ref)
        return child

    def _open(self, inode: Inode, ref: ObjectRef) -> _Folder:
        catalog = self._tree.catalog(ref)
        directory = catalog.directory(0)
        inner: dict[bytes, Inode | _Folder] = {
            entry.name: self._tree.inode(entry, catalog, directory.first + position)
            for position, entry in enumerate(directory.entries)
        }
        top = catalog.root
        own = _copy(inode)
        own.mode, own.uid, own.gid, own.mtime = top.mode, top.uid, top.gid, top.mtime
        own.xattrs = top.xattrs
        return _Folder(own, inner)


def _parts(path: str) -> list[bytes]:
    parts = path.encode(errors="surrogateescape").split(b"/")
    for part in parts:
        try:
            check_name(part)
        except FormatError as error:
            raise UsageError(f"path {path!r} in the repository: {error}") from None
    return parts


def _copy(inode: Inode) -> Inode:
    return Inode(
        inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        mtime=inode.mtime,
        size=inode.size,
        content=inode.content,
        detail=inode.detail,
        pack=inode.pack,
        offset=inode.offset,
        flags=inode.flags,
        xattrs=inode.xattrs,
        nested=inode.nested,
    )


def _with_profile(old: Inode, new: Inode) -> Inode:
    if not old.nested or old.nested != new.nested or HINT in dict(new.xattrs):
        return new
    kept = [pair for pair in old.xattrs if pair[0] == HINT]
    if not kept:
        return new
    new = _copy(new)
    new.xattrs = tuple(sorted([*new.xattrs, *kept]))
    return new


def _same(old: Inode, new: Inode) -> bool:
    return all(
        getattr(old, field) == getattr(new, field)
        for field in (
            *("mode", "uid", "gid", "mtime", "size", "content", "detail"),
            *("pack", "offset", "flags", "xattrs", "nested"),
        )
    )
