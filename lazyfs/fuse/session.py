"""The seam between what is mounted and how it talks to the kernel."""

from typing import Protocol

from lazyfs.core.catalog.entry import NAME_MAX
from lazyfs.vfs.attributes import BLOCK_SIZE
from lazyfs.vfs.tree import Tree

FOREVER = 0xFFFF_FFFF
"""Seconds that names, attributes and missing names stay valid: images do not change, and where a folder
does, the kernel is told."""


class Options:
    """How the mount looks to the host."""

    def __init__(
        self,
        *,
        source: str,
        suid: bool = False,
        dev: bool = False,
        permissions: str = "image",
        allow_other: bool = True,
    ) -> None:
        """`source`: what `df` and /proc/mounts show. `permissions`: `image` lets the kernel check modes,
        `open` shows them and lets everybody read."""
        self.source = source
        self.suid = suid
        self.dev = dev
        self.permissions = permissions
        self.allow_other = allow_other


class Session(Protocol):
    """One mounted filesystem. Made and mounted by its class; then served until it is unmounted."""

    kind: str
    """As `--fuse` calls it."""

    async def serve(self) -> None:
        """Answers the kernel; returns after the unmount. Cancelling it ends the answering."""
        ...

    def unmount(self) -> None:
        """Takes the mount away, also from under programs that still use it."""
        ...

    def forget_inode(self, number: int) -> None:
        """Tells the kernel to drop attributes and pages of an inode. Blocks while a request that touches it
        is under way: never call it in the event loop or under the filesystem's lock."""
        ...

    def forget_entry(self, parent: int, name: bytes) -> None:
        """Tells the kernel to drop what it knows of a name. Blocks as `forget_inode` does."""
        ...


class Space(dict[str, int]):
    """What statfs shows, by the names of struct statvfs."""


def statfs(tree: Tree, cache: tuple[int, int] | None) -> Space:
    """What `df` shows. As with CVMFS, the blocks are the cache's, (limit, occupied) in bytes, and the files
    the repositories'. Without a cache: a full filesystem the size of the repositories that are open."""
    size = entries = 0
    for totals in tree.totals():
        size += totals.bytes
        entries += totals.entries
    limit, occupied = cache or (size, size)
    return Space(
        bsize=BLOCK_SIZE,
        frsize=BLOCK_SIZE,
        blocks=-(-limit // BLOCK_SIZE),
        bfree=max(limit - occupied, 0) // BLOCK_SIZE,
        files=entries,
        namemax=NAME_MAX,
    )
