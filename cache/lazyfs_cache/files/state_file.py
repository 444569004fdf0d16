"""The small file that says whether the index may be trusted: written whole, then renamed."""

import os
from typing import Literal

import msgspec

from lazyfs_cache.errors import UnusableDirectory
from lazyfs_cache.files import layout

Policy = Literal["lru", "sieve"]
"""What goes first: the least recently used value, or SIEVE's choice."""


class State(msgspec.Struct, kw_only=True):
    """What the processes that open a cache agree on."""

    format: int = layout.FORMAT
    boot: str
    """Boot id under which the index was last open."""
    generation: int
    """Number of the index in use; a new one is begun when an old one is discarded."""
    limit: int
    policy: Policy
    map_size: int
    clean: bool
    """True once the last process has closed the cache and the index is on the disk."""


class _Marked(msgspec.Struct):
    format: int


def load(root: str) -> State | None:
    """The state, None if there is none or it cannot be read. Raises UnusableDirectory for another format, but
    for `layout.OTHER_INDEX`."""
    try:
        with open(os.path.join(root, layout.STATE), "rb") as file:
            found = file.read()
        marked = msgspec.json.decode(found, type=_Marked)
        if marked.format not in (layout.FORMAT, layout.OTHER_INDEX):  # alone: others have other fields
            raise UnusableDirectory(
                f"cache {root}: format {marked.format}, this version has {layout.FORMAT}; "
                "give another directory"
            )
        return msgspec.json.decode(found, type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(root: str, state: State) -> None:
    """Replace the state; it is on the disk when this returns."""
    path = os.path.join(root, layout.STATE)
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(state))
        os.fsync(fd)
    finally:
        os.close(fd)
    rename(path + ".new", path)


def rename(old: str, new: str) -> None:
    """Give a file that is on the disk its name; that is on the disk too when this returns. Raises OSError."""
    os.rename(old, new)
    directory = os.open(os.path.dirname(new), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
