"""One name in a directory, with everything lstat, readlink, listxattr and getxattr answer."""

import stat
from typing import Annotated

import msgspec

from lazyfs.core.chunks import MAX_SHIFT, MIN_SHIFT, list_size
from lazyfs.core.digest import SIZE, Digest, ObjectRef
from lazyfs.core.errors import FormatError

ADDED = 1
"""Marks an entry of the publisher (a bind point, say), not of the image's layers; comparisons skip it."""
NESTED = 2
"""A directory whose content is a catalog of its own: `content` is its digest, `detail` its plaintext size."""
LIVE = 4
"""A nested directory above images: a new revision changes it in place, where a snapshot stays as opened."""

NAME_MAX = 255
DIRECTORY_SIZE = 4096
"""st_size of every directory."""

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]
I64 = Annotated[int, msgspec.Meta(ge=-0x8000_0000_0000_0000, le=0x7FFF_FFFF_FFFF_FFFF)]
Xattrs = tuple[tuple[bytes, bytes], ...]
"""(name, value) pairs, sorted by name."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """An entry as stored. The type bits of `mode` decide the meaning of `content` and `detail`."""

    name: bytes
    """One path component, raw bytes; empty for a catalog's own root."""
    mode: U32
    """st_mode: type and all twelve permission bits."""
    uid: U32
    gid: U32
    mtime: I64
    """Nanoseconds since 1970."""
    size: U63
    """st_size: file bytes, length of a link's target."""
    content: bytes = b""
    """File: content id (empty if the file is). Link: target. Nested directory: catalog digest."""
    detail: U63 = 0
    """File: 0, or log2 of the chunk size if `content` names a chunk list. Directory: its number in this
    catalog, or the nested catalog's plaintext size. Device: major << 32 | minor."""
    nlink: U32 = 1
    link: I64 = 0
    """0: one name only. Positive: index of the group's first name in this catalog. Negative: minus the
    group's id in the snapshot's top catalog, for a group with names in several catalogs."""
    flags: U32 = 0
    xattrs: Xattrs = ()

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def nested(self) -> ObjectRef | None:
        """The catalog that holds this directory's content, if it is not in this one."""
        if self.flags & NESTED:
            return ObjectRef(Digest(self.content), self.detail)
        return None

    @property
    def whole(self) -> ObjectRef | None:
        """The object that is this file's content, if it is one object; None for chunked or empty files."""
        if self.size and not self.detail and self.is_file:
            return ObjectRef(Digest(self.content), self.size)
        return None

    @property
    def chunk_list(self) -> ObjectRef | None:
        """The chunk list of a file cut into chunks."""
        if self.size and self.detail and self.is_file:
            return ObjectRef(Digest(self.content), list_size(self.size, self.detail))
        return None


def check_name(name: bytes) -> None:
    """Raises FormatError for an invalid name, such as one that would lead out of the directory."""
    if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise FormatError(f"{name!r} cannot be a name in a directory")


def check_entry(entry: Entry) -> None:
    """Raises FormatError if the fields contradict one another."""
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFREG:
        wrong = bool(entry.size) != (len(entry.content) == SIZE) or (
            entry.detail and not MIN_SHIFT <= entry.detail <= MAX_SHIFT
        )
    elif kind == stat.S_IFDIR:
        wrong = bool(entry.flags & NESTED) != (len(entry.content) == SIZE)
    elif kind == stat.S_IFLNK:
        wrong = not entry.content or len(entry.content) != entry.size or b"\0" in entry.content
    else:
        wrong = bool(entry.content) or kind not in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
    # Only a directory can be nested: any other type's `content` is not a catalog's digest.
    if wrong or entry.mode >> 16 or (entry.flags & NESTED and kind != stat.S_IFDIR):
        raise FormatError(f"catalog entry {entry.name!r} of mode {entry.mode:o} contradicts itself")
