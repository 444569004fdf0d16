"""Unpacks an image into a directory, without root. Layers are merged as records first; then each file is
written once.

No link from a layer is ever followed: every directory that is written to was made here, and links come last.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.errors import LazyfsError
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.record import Record
from lazyfs.images.image_tree import merged
from lazyfs.images.layer_reader import read_layer
from lazyfs.images.sources.image import Image, distinct
from lazyfs.system.user_namespace import is_root_of_node

_PART = 1 << 20
_ENTRY = 4096
"""The number of bytes that are counted for each name, in addition to the content of a file: in nearly all
cases a disk needs no more."""


class _Contents:
    """Writes the contents of files into a directory, as files named by numbers."""

    def __init__(self, directory: str, write: Callable[[int], None]) -> None:
        self._directory = directory
        self._write = write
        self._count = 0

    def add(self, record: Record, read: Callable[[int], bytes]) -> None:
        """Writes the content of one file, and puts its number into the record."""
        if not record.size:
            return
        self._count += 1
        record.content = b"%d" % self._count
        with open(os.path.join(self._directory, str(self._count)), "xb") as file:
            left = record.size
            while left:
                part = read(min(left, _PART))
                self._write(len(part))
                file.write(part)
                left -= len(part)

    def end(self) -> None:
        """Does nothing: `add` has already written every content."""


def unpack(image: Image, directory: str, write: Callable[[int], None], warn: Callable[[str], None]) -> None:
    """Unpacks the image into `directory`/root. `write`: called with a number of bytes before they are
    written.

    Files belong to the caller, or to the image's owners if root unpacks. No file is set-user-id, and devices
    are left out. The caller may read every file, and write to every directory. Raises BadData,
    TransportError, OSError.
    """
    staging = os.path.join(directory, "contents")
    os.mkdir(staging)
    contents = _Contents(staging, write)
    numbers = [image.layers.index(layer) for layer in distinct(image)]
    records = {}
    budget = EntryBudget()
    for number, parts in image.read(numbers):
        layer = image.layers[number]
        records[layer.diff_id] = read_layer(layer.blob, parts, contents, budget=budget)
    named = [(layer.blob.name, records[layer.diff_id]) for layer in image.layers]
    top = merged(named, warn)
    _write_tree(top, os.fsencode(os.path.join(directory, "root")), os.fsencode(staging), write)
    shutil.rmtree(staging)


def _write_tree(top: Inode, root: bytes, staging: bytes, write: Callable[[int], None]) -> None:
    written: dict[int, bytes] = {}
    """Maps the id() of an inode to the first path at which it was written."""
    taken: set[bytes] = set()
    os.mkdir(root, 0o700)
    directories = [(root, top)]
    for path, inode in _below(top, root):
        write(_ENTRY)
        first = written.setdefault(id(inode), path)
        if inode.is_dir:
            os.mkdir(path, 0o700)
            directories.append((path, inode))
        elif first != path:
            os.link(first, path, follow_symlinks=False)
        elif stat.S_ISREG(inode.mode):
            _write_file(path, inode, staging, taken)
        elif stat.S_ISLNK(inode.mode):
            os.symlink(inode.content, path)
            _finish(path, inode)
        elif stat.S_ISFIFO(inode.mode):
            os.mkfifo(path)
            _finish(path, inode)
    for path, inode in reversed(directories):
        _finish(path, inode)


def _below(top: Inode, path: bytes) -> Iterator[tuple[bytes, Inode]]:
    """Yields (path, inode) for everything below a directory, a directory before what is in it. Not recursive,
    because trees can be deep."""
    pending = [(path, top)]
    while pending:
        above, inode = pending.pop()
        for name, child in (inode.children or {}).items():
            below = above + b"/" + name
            yield below, child
            if child.is_dir:
                pending.append((below, child))


def _write_file(path: bytes, inode: Inode, staging: bytes, taken: set[bytes]) -> None:
    if not inode.size:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    elif inode.content in taken:  # a layer that an image has twice
        shutil.copyfile(staging + b"/" + inode.content, path)
    else:
        taken.add(inode.content)
        os.rename(staging + b"/" + inode.content, path)
        if os.stat(path).st_size != inode.size:
            raise LazyfsError(f"{os.fsdecode(path)}: {os.stat(path).st_size} bytes instead of {inode.size}")
    _finish(path, inode)


def _finish(path: bytes, inode: Inode) -> None:
    """Sets the mode and time of what lies at `path` as `inode` states them; as root, its owner too."""
    if is_root_of_node():
        os.lchown(path, inode.uid, inode.gid)
    if not stat.S_ISLNK(inode.mode):
        least = 0o700 if inode.is_dir else 0o400
        os.chmod(path, inode.mode & 0o1777 | least)
    os.utime(path, ns=(inode.mtime, inode.mtime), follow_symlinks=False)
