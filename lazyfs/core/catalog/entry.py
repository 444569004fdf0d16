"""One name in a directory, with everything lstat, readlink, listxattr and getxattr answer."""

import stat
from typing import Annotated

import msgspec

from lazyfs.core import bounds
from lazyfs.core.chunks import MAX_SHIFT, MIN_SHIFT, ChunkList, chunk_count, list_size
from lazyfs.core.digest import SIZE, Digest, ObjectRef, ObjectSlice, sha256
from lazyfs.core.errors import FormatError
from lazyfs.core.pack import PackTable

ADDED = 1
"""Marks an entry that the publisher added, such as a bind point, and that is in no layer of the image."""
NESTED = 2
"""Marks a directory whose content is a catalog of its own: `content` is the catalog's digest, `detail` its
plaintext size."""
LIVE = 4
"""Marks a nested directory that holds images or published trees. When a new revision comes, a mount shows its
changes in such a directory; an image or tree keeps the content with which it was opened."""
_FLAGS = ADDED | NESTED | LIVE

NAME_MAX = bounds.NAME
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
    """st_size: bytes of a file, or length of a symbolic link's target."""
    content: bytes = b""
    """File: its content id, empty for an empty file; for a file of few chunks, the chunks' digests one after
    another. Link: its target. Nested directory: the catalog's digest."""
    detail: U63 = 0
    """File: 0 if its content is one object, log2 of the chunk size if it has several chunks, or
    `packed_detail`. Directory: its number in this catalog, or the nested catalog's plaintext size. Device:
    major << 32 | minor."""
    nlink: U32 = 1
    link: I64 = 0
    """The hardlink group of the entry. 0: none, the inode has one name only. Positive: the index, in this
    catalog, of the group's first name. Negative: a group with names in several catalogs; minus this number is
    the group's id in the snapshot's top catalog."""
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
        """The nested catalog that holds this directory's content; None if the content is in the entry's own
        catalog."""
        if self.flags & NESTED:
            return ObjectRef(Digest(self.content), self.detail)
        return None

    @property
    def pack_number(self) -> int:
        """The number, in the catalog's table, of the pack that holds a small file; -1 for a file that lies in
        no pack."""
        return (self.detail >> 32) - 1 if self.detail > 0xFFFF_FFFF and self.is_file else -1

    def place(self, packs: PackTable) -> ObjectSlice | None:
        """Returns the part of an object that is this file's content. None for chunked and empty files, and
        for entries that are not files. `packs`: the table of the entry's catalog."""
        if not self.size or not self.is_file:
            return None
        if not self.detail:
            return ObjectSlice(ObjectRef(Digest(self.content), self.size), 0, self.size)
        number = self.pack_number
        return ObjectSlice(packs[number], self.detail & 0xFFFF_FFFF, self.size) if number >= 0 else None

    @property
    def chunk_list(self) -> ObjectRef | None:
        """The chunk list of a file cut into chunks, if the list is an object of its own; otherwise None."""
        if self.size and 0 < self.detail <= MAX_SHIFT and len(self.content) == SIZE and self.is_file:
            return ObjectRef(Digest(self.content), list_size(self.size, self.detail))
        return None

    @property
    def chunks(self) -> ChunkList | None:
        """The chunk list of a file of few chunks, which the entry holds itself; None for any other entry."""
        if 0 < self.detail <= MAX_SHIFT and len(self.content) > SIZE and self.is_file:
            return ChunkList.of(self.content, self.size, self.detail)
        return None

    @property
    def content_id(self) -> bytes:
        """The identity of a file's bytes, wherever they lie: their SHA-256, or that of the chunk list of a
        file of several chunks; empty for an empty file."""
        chunks = self.chunks
        return sha256(chunks.encoded) if chunks else self.content


def packed_detail(number: int, offset: int) -> int:
    """Returns the `detail` of a file that lies at `offset` in pack `number` of its catalog's table. It is at
    least 2**32; the `detail` of every other file is smaller."""
    return (number + 1) << 32 | offset


def check_name(name: bytes) -> None:
    """Raises FormatError for an invalid name, such as one that would lead out of the directory."""
    if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise FormatError(f"{name!r} cannot be a name in a directory")


def check_entry(entry: Entry) -> None:
    """Raises FormatError if the fields contradict one another, or one is outside its bounds."""
    fault = _FAULTS.get(stat.S_IFMT(entry.mode), _unknown_type)(entry)
    if entry.mode >> 16:
        fault = "mode"
    elif entry.uid >= bounds.NOBODY or entry.gid >= bounds.NOBODY:
        fault = f"owner {entry.uid}:{entry.gid}"
    elif entry.nlink > bounds.NLINK:
        fault = f"nlink {entry.nlink}"
    elif entry.link and not -bounds.SHARED_ID <= entry.link <= bounds.ENTRIES:
        fault = f"link {entry.link}"
    elif entry.flags and (entry.flags > _FLAGS or entry.flags & (NESTED | LIVE) == LIVE):
        fault = f"flags {entry.flags}"
    elif entry.xattrs:
        fault = fault or _xattr_fault(entry.xattrs)
    if fault:
        raise FormatError(f"catalog entry {entry.name!r} of mode {entry.mode:o} contradicts itself: {fault}")


def _file_fault(entry: Entry) -> str:
    size, shift = entry.size, entry.detail
    if len(entry.content) != (SIZE if size else 0) and not _holds_chunks(entry):
        return f"size {size}, and a content id of {len(entry.content)} bytes"
    if entry.flags & NESTED:
        return "nested"
    number = entry.pack_number
    if number >= 0:
        offset = shift & 0xFFFF_FFFF
        if number >= bounds.PACKS or not 0 < size <= bounds.PACK - offset:
            return f"size {size} at {offset} in pack {number}"
        return ""
    if shift and (not MIN_SHIFT <= shift <= MAX_SHIFT or not 0 < size <= bounds.CHUNKS << shift):
        return f"size {size} in chunks of 2**{shift}"
    if not shift and size > bounds.OBJECT:
        return f"size {size} in one object"
    return ""


def _holds_chunks(entry: Entry) -> bool:
    """Returns True for a file of few chunks whose entry has a digest for each."""
    if not MIN_SHIFT <= entry.detail <= MAX_SHIFT:
        return False
    count = chunk_count(entry.size, entry.detail)
    return 1 < count <= bounds.INLINE_CHUNKS and len(entry.content) == SIZE * count


def _directory_fault(entry: Entry) -> str:
    if entry.link:
        return "hardlink of a directory"
    if entry.size != DIRECTORY_SIZE:
        return f"size {entry.size}"
    if entry.flags & NESTED:
        if len(entry.content) != SIZE or not 0 < entry.detail <= bounds.OBJECT:
            return f"nested catalog of {entry.detail} bytes, digest of {len(entry.content)}"
    elif entry.content or entry.detail > bounds.ENTRIES:
        return f"directory {entry.detail}, content of {len(entry.content)} bytes"
    return ""


def _link_fault(entry: Entry) -> str:
    target = entry.content
    if not 0 < len(target) <= bounds.PATH or len(target) != entry.size or b"\0" in target:
        return f"size {entry.size}, and a target of {len(target)} bytes"
    return _special_fault(entry, entry.detail)


def _device_fault(entry: Entry) -> str:
    if entry.content or entry.detail >> 32 > bounds.MAJOR or entry.detail & 0xFFFF_FFFF > bounds.MINOR:
        return f"device {entry.detail >> 32}:{entry.detail & 0xFFFF_FFFF}"
    return _special_fault(entry, entry.size)


def _pipe_fault(entry: Entry) -> str:
    return _special_fault(entry, entry.detail or entry.size or len(entry.content))


def _special_fault(entry: Entry, surplus: int) -> str:
    # The entry is nested but no directory: its `content` is no digest, and must not be taken for a catalog's.
    return (
        "nested" if entry.flags & NESTED else f"a field that its type has not: {surplus}" if surplus else ""
    )


def _unknown_type(entry: Entry) -> str:
    return f"type {stat.S_IFMT(entry.mode):o}"


def _xattr_fault(xattrs: Xattrs) -> str:
    names = 0
    before = b""
    for name, value in xattrs:
        names += len(name) + 1
        if not name or len(name) > NAME_MAX or b"\0" in name or name <= before:
            return f"extended attribute {name[: NAME_MAX + 1]!r} after {before!r}"
        if len(value) > bounds.XATTR or names > bounds.XATTR:
            return f"extended attributes of {names} and {len(value)} bytes"
        before = name
    return ""


_FAULTS = {
    stat.S_IFREG: _file_fault,
    stat.S_IFDIR: _directory_fault,
    stat.S_IFLNK: _link_fault,
    stat.S_IFCHR: _device_fault,
    stat.S_IFBLK: _device_fault,
    stat.S_IFIFO: _pipe_fault,
    stat.S_IFSOCK: _pipe_fault,
}
