"""Sources of trees that are not images: a tar archive, a directory."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.layers.attributes import is_images
from lazyfs.core.layers.record import Kind, Record
from lazyfs.images.inputs import open_input
from lazyfs.images.layer_reader import Blob, read_layer
from lazyfs.store.ingest import Ingest
from lazyfs.store.layer_files import LayerFiles


def read_tar(path: str, ingest: Ingest) -> list[Record]:
    """Returns the records of a tar archive (plain, gzip or zstd); `.wh.` names have no special meaning in it.

    `path` may be `-`, the standard input. Raises UsageError if there is no such file, BadData if it is not a
    tar archive or is cut off.
    """
    stream = open_input(path, f"tar:{path}")
    with closing(stream):
        blob = Blob(stream.name, stream.size or 0, streamed=stream.size is None, whiteouts=False)
        return read_layer(blob, stream.parts(), ingest.layer())


def read_directory(path: str, ingest: Ingest) -> list[Record]:
    """Returns the records of a directory tree as it is now, and of filesystems mounted in it; sockets are
    left out.

    Raises UsageError if it is not a directory, LazyfsError for a file that cannot be read or changes
    meanwhile.
    """
    if not os.path.isdir(path):
        raise UsageError(f"dir:{path}: not a directory")
    top = os.fsencode(path)
    files = ingest.layer()
    records: list[Record] = []
    try:
        for record in directory_records(top):
            if record.kind == Kind.INODE and stat.S_ISREG(record.mode):
                _read_file(os.path.join(top, record.path), record, files)
            records.append(record)
        files.end()
    except OSError as error:
        raise LazyfsError(f"dir:{path}: {error.strerror}: {os.fsdecode(error.filename or top)}") from None
    return records


def directory_records(top: bytes) -> Iterator[Record]:
    """Yields the records of a directory tree, without the contents of its files: `top` itself first, parents
    before children, names in order. Raises OSError."""
    seen: dict[tuple[int, int], bytes] = {}
    for name, status in _walk(top):
        record = _record(top, name, status, seen)
        if record is not None:
            yield record


def _walk(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yields every path below `top`, starting with `top` itself (as b""), parents before children, names in
    order."""
    stack = [b""]
    while stack:
        name = stack.pop()
        path = os.path.join(top, name) if name else top
        status = os.stat(path) if not name else os.lstat(path)
        yield name, status
        if stat.S_ISDIR(status.st_mode):
            prefix = name + b"/" if name else b""
            stack.extend(prefix + child for child in sorted(os.listdir(path), reverse=True))


def _record(
    top: bytes, name: bytes, status: os.stat_result, seen: dict[tuple[int, int], bytes]
) -> Record | None:
    mode = status.st_mode
    if stat.S_ISSOCK(mode):
        return None
    path = os.path.join(top, name) if name else top
    record = Record(
        Kind.INODE,
        name,
        mode=mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        xattrs=_xattrs(path),
    )
    if stat.S_ISREG(mode):
        record.size = status.st_size
    elif stat.S_ISLNK(mode):
        record.content = os.readlink(path)
        record.size = len(record.content)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        record.detail = os.major(status.st_rdev) << 32 | os.minor(status.st_rdev)
    if status.st_nlink > 1 and not stat.S_ISDIR(mode):
        first = seen.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            record.kind, record.content = Kind.HARDLINK, first
    return record


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        return tuple(
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in filter(is_images, names)
        )
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise


def _read_file(path: bytes, record: Record, files: LayerFiles) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:

        def read(count: int) -> bytes:
            data = file.read(count)
            if len(data) < count:
                raise LazyfsError(f"{os.fsdecode(path)} shrank while it was read: publish again")
            return data

        files.add(record, read)
