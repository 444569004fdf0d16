"""The tree of inodes that a publisher builds in memory before it becomes catalogs."""

import stat
from typing import NamedTuple

from lazyfs.core.catalog.entry import LIVE, NESTED, Entry, Xattrs
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.pack import NO_PACKS, PackTable


class Nested(NamedTuple):
    """A directory whose catalog is in the store already."""

    ref: ObjectRef
    live: bool
    nlink: int
    totals: Totals


class Inode:
    """A file, directory, link or device. All names of a hardlink group share one Inode object.

    A directory has either `children` or `nested`; everything else has neither. The fields are those of
    `Entry`, except that a small file refers to its pack directly: the numbers of packs exist in catalogs
    only. An inode takes about 370 bytes with its name, so a million entries take 370 MB.
    """

    __slots__ = (
        "children",
        "content",
        "detail",
        "flags",
        "gid",
        "mode",
        "mtime",
        "nested",
        "nlink",
        "offset",
        "pack",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(
        self,
        mode: int,
        *,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        size: int = 0,
        content: bytes = b"",
        detail: int = 0,
        pack: ObjectRef | None = None,
        offset: int = 0,
        flags: int = 0,
        xattrs: Xattrs = (),
        nested: Nested | None = None,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.size = size
        self.content = content
        self.detail = detail
        self.pack = pack
        """The pack that a small file lies in, at `offset`."""
        self.offset = offset
        self.flags = flags
        self.xattrs = xattrs
        self.nested = nested
        self.nlink = 0
        """The number of names that the inode has in the tree; set by the builder."""
        self.children: dict[bytes, Inode] | None = {} if stat.S_ISDIR(mode) and nested is None else None

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


def from_entry(entry: Entry, totals: Totals | None = None, packs: PackTable = NO_PACKS) -> Inode:
    """Returns the inode of a stored entry. `packs`: the table of its catalog.

    A directory of the same catalog comes without its children, which the caller fills in. Names of one
    hardlink group get separate inodes, which the caller joins. `totals` are those of a nested directory, from
    its catalog's header.
    """
    nested = None
    if entry.flags & NESTED:
        ref = ObjectRef(Digest(entry.content), entry.detail)
        nested = Nested(ref, bool(entry.flags & LIVE), entry.nlink, totals or Totals())
    plain = not entry.is_dir
    packed = entry.place(packs) if entry.pack_number >= 0 else None
    return Inode(
        entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        size=entry.size if plain else 0,
        content=entry.content if plain else b"",
        detail=entry.detail if plain and packed is None else 0,
        pack=packed.ref if packed else None,
        offset=packed.start if packed else 0,
        flags=entry.flags & ~(NESTED | LIVE),
        xattrs=entry.xattrs,
        nested=nested,
    )
