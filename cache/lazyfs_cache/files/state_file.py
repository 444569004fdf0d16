"""The file that names the index in use, and marks the index that may be trusted after a reboot."""

import os
from typing import Literal

import msgspec

from lazyfs_cache.errors import UnusableDirectory
from lazyfs_cache.files import layout

Policy = Literal["lru", "sieve"]
"""Order of eviction: the least recently used value first, or SIEVE's choice."""


class CacheState(msgspec.Struct, kw_only=True):
    """The facts on which all processes that open a cache agree."""

    format: int = layout.FORMAT
    boot: str
    """The kernel's boot id when the index was last open."""
    generation: int
    """Number of the index in use; it grows when an index is discarded and another one begun."""
    limit: int
    policy: Policy
    map_size: int
    clean: bool
    """True once the last process has closed the cache and the index is on the disk."""


class _Format(msgspec.Struct):
    """Only the format field, which the states of all formats have; a state of another format may lack other
    fields."""

    format: int


def load(root: str) -> CacheState | None:
    """Returns the state; None if there is none or it cannot be read. Raises UnusableDirectory for a format
    other than this one and those of `layout.OTHER_INDEX`."""
    try:
        with open(os.path.join(root, layout.STATE), "rb", opener=no_link) as file:
            found = file.read()
        number = msgspec.json.decode(found, type=_Format).format
        if number not in (layout.FORMAT, *layout.OTHER_INDEX):
            raise UnusableDirectory(
                f"cache {root}: format {number}, this version has {layout.FORMAT}; give another directory"
            )
        return msgspec.json.decode(found, type=CacheState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(root: str, state: CacheState) -> None:
    """Replaces the state; it is on the disk when this returns."""
    path = os.path.join(root, layout.STATE)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path + ".new", flags, 0o600)
    try:
        view = memoryview(msgspec.json.encode(state))
        while view:  # a disk that is almost full takes only a part
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    rename(path + ".new", path)


def no_link(path: str, flags: int) -> int:
    """Opens a file without following a link, as an opener for `open`: a user who could once write here may
    have left a link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def rename(old: str, new: str) -> None:
    """Renames a flushed file; the new name is on the disk when this returns. Raises OSError."""
    os.rename(old, new)
    directory = os.open(os.path.dirname(new), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
