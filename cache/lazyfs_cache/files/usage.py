"""Counts the bytes of disk of a cache's files other than values: locks, the state, indexes, pin sets."""

import os

from lazyfs_cache.files import layout


def fixed_bytes(root: str, block: int, index_file: str) -> int:
    """Returns the number of bytes of everything in the cache directory but data/, tmp/, pins/ and
    `index_file`, the file of the index in use. `block`: the filesystem's block size."""
    total = _most(root, block)
    for entry in os.scandir(root):
        if entry.name in (layout.DATA, layout.TMP, layout.PINS):
            continue
        total += _most(entry.path, block)
        if entry.is_dir(follow_symlinks=False):
            total += sum(_most(inner.path, block) for inner in os.scandir(entry.path))
    return total - _most(index_file, block)


def pin_set_bytes(root: str, block: int) -> int:
    """Returns the number of bytes of pins/ and the files in it. `block`: the filesystem's block size."""
    pins = os.path.join(root, layout.PINS)
    return _most(pins, block) + sum(_most(entry.path, block) for entry in os.scandir(pins))


def _most(path: str, block: int) -> int:
    """Returns the largest number of bytes that a file may come to occupy while its length stays the same:
    some filesystems allocate the blocks some time after the write. Returns 0 if the file does not exist."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    return max(found.st_blocks * 512, -(-found.st_size // block) * block)
