"""Lists the objects of a store directory with the times at which they were written, and deletes files."""

import os
from collections.abc import Iterator, Sequence

from lazyfs.core.digest import Digest, object_path, parse_hex
from lazyfs.core.errors import FormatError
from lazyfs.store.protocol import StoredObject


def list_objects(store: str) -> Iterator[StoredObject]:
    """Yields the objects of a store directory. Passes over files whose names are no objects'."""
    data = os.path.join(store, "data")
    for first in os.listdir(data):
        if len(first) != 2:
            continue
        with os.scandir(os.path.join(data, first)) as files:
            for file in files:
                try:
                    digest = parse_hex(first + file.name)
                    status = file.stat(follow_symlinks=False)
                except (FormatError, FileNotFoundError):
                    continue
                yield StoredObject(digest, status.st_size, status.st_mtime)


def delete_objects(store: str, digests: Sequence[Digest]) -> None:
    """Deletes objects. Nothing is flushed: an object that a power failure brings back is still right, and the
    next collection deletes it again."""
    for digest in digests:
        try:
            os.unlink(os.path.join(store, object_path(digest)))
        except FileNotFoundError:
            continue


def delete_older(directory: str, before: float) -> int:
    """Deletes the files of a directory that were written before this time. Returns the number of bytes
    deleted."""
    total = 0
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    for name in names:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
            if status.st_mtime < before:
                os.unlink(path)
                total += status.st_size
        except FileNotFoundError:
            continue  # its publisher has named it, or has taken it away
    return total
