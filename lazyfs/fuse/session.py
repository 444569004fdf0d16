"""The interface between the mounted tree and the sessions that talk to the kernel."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from lazyfs.core.catalog.entry import NAME_MAX
from lazyfs.vfs.attributes import BLOCK_SIZE
from lazyfs.vfs.tree import Tree

FOREVER = 0xFFFF_FFFF
"""Seconds that names, attributes and missing names stay valid: images do not change, and where a folder
does, the kernel is told."""


class MountOptions(msgspec.Struct, frozen=True):
    """The options with which a filesystem is mounted on this machine."""

    source: str
    """The source as `df` and /proc/mounts show it."""
    suid: bool = False
    dev: bool = False
    permissions: str = "image"
    """`image`: the kernel checks the modes. `open`: the modes are shown but not checked, so every user may
    read."""
    allow_other: bool = True


class HeldMount(msgspec.Struct, frozen=True):
    """The state that a successor of this process needs in order to go on serving a mount."""

    device: int
    """The descriptor of /dev/fuse."""
    table: int
    """The descriptor of the table of unanswered requests."""
    init: bytes
    """The reply to INIT. The kernel counts on its flags for as long as the mount lives."""
    answered: tuple[int, ...]
    """The opcodes that the session answers. The kernel never asks again for one that was refused with
    ENOSYS."""


class Notified(Protocol):
    """The part of a session that drops the answers that a new revision has changed."""

    def forget_answers(self, folders: set[int]) -> None:
        """Drops the answers about these folders that the session itself keeps. Called under the filesystem's
        lock."""
        ...

    def forget_inode(self, number: int) -> None:
        """Tells the kernel to drop attributes and pages of an inode. Blocks while a request for the inode is
        under way: never call it in the event loop or under the filesystem's lock."""
        ...

    def forget_entry(self, parent: int, name: bytes) -> None:
        """Tells the kernel to drop a name and its answer. Blocks as `forget_inode` does."""
        ...


class Session(Notified, Protocol):
    """One mounted filesystem. The constructor mounts; `serve` serves until the unmount."""

    kind: str
    """The session's name in `--fuse`."""

    def begin(self, needs_loop: Callable[[], object]) -> bool:
        """Begins to answer requests whose objects are at hand, before `serve` and its event loop. Returns
        False if the session cannot. `needs_loop` is called, in any thread, for each request that waits for
        `serve`."""
        ...

    def held(self) -> HeldMount | None:
        """Returns what a successor needs; None if a mount of this session cannot be taken over."""
        ...

    def serve_kept(self) -> None:
        """Serves the requests that the keeper read while this process was stopped. Blocks: call it in a
        thread."""
        ...

    def bound_answers(self, limit: int) -> None:
        """Sets the number of bytes up to which the session keeps answers. Called under the filesystem's
        lock."""
        ...

    async def serve(self) -> None:
        """Answers the kernel; returns after the unmount. Cancelling it ends the answering."""
        ...

    def unmount(self) -> None:
        """Unmounts, even if programs still use the mount."""
        ...

    def close(self) -> None:
        """Unmounts and ends the answering."""
        ...


class StatvfsFields(msgspec.Struct, frozen=True):
    """The fields that statfs shows, by the names of struct statvfs."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    files: int
    namemax: int


def statfs(tree: Tree, cache: tuple[int, int] | None) -> StatvfsFields:
    """Returns the fields that `df` shows. As with CVMFS, the blocks describe the cache, `cache` being (limit,
    occupied) in bytes, and the files describe the repositories. Without a cache, `df` shows a full filesystem
    of the size of the open repositories."""
    size = entries = 0
    for totals in tree.totals():
        size += totals.bytes
        entries += totals.entries
    limit, occupied = cache or (size, size)
    return StatvfsFields(
        bsize=BLOCK_SIZE,
        frsize=BLOCK_SIZE,
        blocks=-(-limit // BLOCK_SIZE),
        bfree=max(limit - occupied, 0) // BLOCK_SIZE,
        files=entries,
        namemax=NAME_MAX,
    )
