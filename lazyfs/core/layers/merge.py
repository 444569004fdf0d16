"""Merges layers of records into one tree, the tree that an unpacker would leave on a disk.

Follows umoci's unpacker (oci/layer/tar_extract.go). Parents are found through links, jailed in the image. A
whiteout spares the entries of its own layer, in either order. A record replaces an earlier entry of its name,
except that a directory keeps the content of an earlier directory. A parent directory that no layer has is
made with the time 0 (1970), where umoci takes the present time.
"""

import stat
from collections.abc import Callable

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import FormatError
from lazyfs.core.layers.record import Kind, Record

MAX_LINKS = 255
"""The largest number of symbolic links that are followed for one path; securejoin has the same limit."""
MAX_DEPTH = 2048
"""The largest depth of directories within directories: more than a path of PATH_MAX bytes can name."""


def _no_warning(_message: str) -> None:
    pass


class Merge:
    """Applies layers from the lowest up: `start_layer`, then `apply` for each of its records; `root` is the
    result. Raises FormatError for a record that no unpacker could apply."""

    def __init__(self, warn: Callable[[str], None] = _no_warning) -> None:
        self.root = Inode(stat.S_IFDIR | 0o755)
        self._warn = warn
        self._last: tuple[bytes, Inode] | None = None
        """The last record's directory: its path as the record has it, and its inode. Archives list a
        directory's files one after another. None once an entry has been replaced or hidden, or a link made,
        because the path may then lead elsewhere."""
        self._upper: dict[Inode, set[bytes]] = {}
        """Maps a directory to the names in it that a whiteout of the current layer must spare: entries of
        this layer, and the directories above them."""

    def start_layer(self) -> None:
        """Begins a layer: the entries so far lie below the records that follow."""
        self._upper.clear()
        self._last = None

    def apply(self, record: Record) -> None:
        """Applies one record of the current layer."""
        if not record.path:
            if record.kind == Kind.OPAQUE:
                self._hide_all(self.root)
            elif record.kind == Kind.INODE and stat.S_ISDIR(record.mode):
                _set_metadata(self.root, record)
            else:
                raise FormatError("a layer would replace or hide the image's root directory")
            return
        if record.kind == Kind.OPAQUE:
            # Like umoci: the directory's own path is followed through links.
            _, trail = self._resolve(record.path, record)
            if trail[-1] is not None:
                self._hide_all(trail[-1])
            return
        parent, _, name = record.path.rpartition(b"/")
        if record.kind == Kind.WHITEOUT:
            _, trail = self._resolve(parent, record)
            if trail[-1] is not None and trail[-1].children is not None:
                self._hide(trail[-1], name)
            return
        directory = self._directory(parent, record)
        self._last = parent, directory
        self._place(directory, name, record)
        self._upper[directory].add(name)

    def _directory(self, parent: bytes, record: Record) -> Inode:
        """Returns the directory that a record's entry goes into, made if it is missing."""
        if self._last is not None and self._last[0] == parent:
            return self._last[1]
        path, trail = self._resolve(parent, record)
        directory = self._make(path, trail, record)
        if directory not in self._upper:
            self._upper[directory] = set()
            for above, step in zip(trail, path, strict=False):
                assert above is not None
                self._upper.setdefault(above, set()).add(step)
        return directory

    def _resolve(self, wanted: bytes, record: Record) -> tuple[list[bytes], list[Inode | None]]:
        """Returns (path, inodes): the path with every link followed, and the inodes along it, None for each
        that does not exist. The root is the first inode, so there is one inode more than names. Raises
        FormatError for a link whose `..` leads above the root."""
        path: list[bytes] = []
        trail: list[Inode | None] = [self.root]
        rest = wanted.split(b"/")[::-1]
        links = 0
        while rest:
            name = rest.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if not path:
                    raise FormatError(
                        f"layer entry {record.path!r} leads out of the image through a symbolic link"
                    )
                path.pop()
                trail.pop()
                continue
            parent = trail[-1]
            child = parent.children.get(name) if parent is not None and parent.children is not None else None
            if child is None or not stat.S_ISLNK(child.mode):
                path.append(name)
                trail.append(child)
                continue
            links += 1
            if links > MAX_LINKS:
                raise FormatError(f"layer entry {record.path!r} goes through more than {MAX_LINKS} links")
            if child.content.startswith(b"/"):
                path.clear()
                del trail[1:]
            rest.extend(reversed(child.content.split(b"/")))
        if len(path) > MAX_DEPTH:
            raise FormatError(f"layer entry {record.path[:80]!r}... lies {len(path)} directories deep")
        return path, trail

    def _make(self, path: list[bytes], trail: list[Inode | None], record: Record) -> Inode:
        """Returns the directory at the end of `path`; makes the directories on the way that are missing.
        `trail`: the inodes on the path, as `_resolve` returns them."""
        directory = self.root
        for position, name in enumerate(path):
            assert directory.children is not None
            child = trail[position + 1]
            if child is None:
                # As in a kernel, a directory from mkdir(2) inherits the set-group-id bit and the group.
                inherited = directory.mode & stat.S_ISGID
                child = Inode(stat.S_IFDIR | 0o755 | inherited, gid=directory.gid if inherited else 0)
                directory.children[name] = trail[position + 1] = child
            elif child.children is None:
                raise FormatError(
                    f"layer entry {record.path!r}: {b'/'.join(path[: position + 1])!r} is not a directory"
                )
            directory = child
        return directory

    def _place(self, directory: Inode, name: bytes, record: Record) -> None:
        assert directory.children is not None
        old = directory.children.get(name)
        if record.kind == Kind.HARDLINK:
            self._last = None
            directory.children.pop(name, None)
            directory.children[name] = self._link_target(record)
        elif old is not None and old.is_dir and stat.S_ISDIR(record.mode):
            _set_metadata(old, record)
        else:
            if old is not None or stat.S_ISLNK(record.mode):
                self._last = None
            if old is not None and stat.S_ISLNK(old.mode) and stat.S_ISDIR(record.mode):
                self._warn(f"directory {record.path!r} replaces a symbolic link to {old.content!r}")
            directory.children[name] = Inode(
                record.mode,
                uid=record.uid,
                gid=record.gid,
                mtime=record.mtime,
                size=record.size,
                content=record.content,
                detail=record.detail,
                pack=record.pack,
                offset=record.offset,
                xattrs=record.xattrs,
            )

    def _link_target(self, record: Record) -> Inode:
        """Returns the inode that a hard link shares. If its target is itself a symbolic link, returns the
        inode of that link and does not follow it."""
        parent, _, name = record.content.rpartition(b"/")
        _, trail = self._resolve(parent, record)
        holder = trail[-1]
        found = holder.children.get(name) if holder is not None and holder.children is not None else None
        if found is None:
            raise FormatError(
                f"layer entry {record.path!r} is a hard link to {record.content!r}, which is missing"
            )
        if found.is_dir:
            raise FormatError(
                f"layer entry {record.path!r} is a hard link to the directory {record.content!r}"
            )
        return found

    def _hide_all(self, directory: Inode) -> None:
        for name in list(directory.children or ()):
            self._hide(directory, name)

    def _hide(self, directory: Inode, name: bytes) -> None:
        """Removes the entries of lower layers at this name and under it."""
        self._last = None
        stack = [(directory, name)]
        while stack:
            directory, name = stack.pop()
            assert directory.children is not None
            if name not in directory.children:
                continue
            if name not in self._upper.get(directory, ()):
                del directory.children[name]
                continue
            child = directory.children[name]
            stack.extend((child, inner) for inner in child.children or ())


def _set_metadata(directory: Inode, record: Record) -> None:
    directory.mode = record.mode
    directory.uid = record.uid
    directory.gid = record.gid
    directory.mtime = record.mtime
    directory.xattrs = record.xattrs
