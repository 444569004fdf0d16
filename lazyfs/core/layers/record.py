"""Records: the metadata of one layer entry, without its bytes; a layer is a list of records, in order.

A stored layer is its records, not a tree, because order matters: a link may lead to a later entry's path,
and a whiteout spares earlier entries of its own layer. A file of records is `LZFREC` + version (u16), then
per batch its length (u32) and a msgpack array of at most 4096 `Record`s. Integers are little-endian.
"""

import stat
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import NAME_MAX, Xattrs
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError
from lazyfs.core.layers import tar
from lazyfs.core.layers.attributes import is_images

MAGIC = struct.pack("<6sH", b"LZFREC", 2)
MAGIC_1 = struct.pack("<6sH", b"LZFREC", 1)
"""The first bytes of a file of records of version 1. In repositories of that version files lie in no
packs."""
BATCH = 4096
_LENGTH = struct.Struct("<I")

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"


class Kind(IntEnum):
    """The change that a record makes to the tree."""

    INODE = 0
    HARDLINK = 1
    """`content` is the path of the name to link to."""
    WHITEOUT = 2
    """Hides the entry at `path` in the layers below."""
    OPAQUE = 3
    """Hides the entries of lower layers in the directory `path`."""


class Record(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """The metadata of one entry. A file's content and place are set once its bytes have been ingested. Entry
    and Inode document the fields."""

    kind: int
    path: bytes
    """Relative to the image's root, no empty, `.` or `..` parts; empty for the root itself."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    content: bytes = b""
    detail: int = 0
    xattrs: Xattrs = ()
    pack: ObjectRef | None = None
    offset: int = 0


_TYPES = {
    tar.FILE: stat.S_IFREG,
    tar.SYMLINK: stat.S_IFLNK,
    tar.CHAR: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK,
    tar.DIRECTORY: stat.S_IFDIR,
    tar.FIFO: stat.S_IFIFO,
}
_I64 = 1 << 63
_SHOWN = 300
"""The largest number of bytes of a name that a message shows: a header may state one of 4 MiB."""


def from_member(member: tar.Member, *, whiteouts: bool) -> Record:
    """Returns the record of an archive entry; raises FormatError for one that must not be applied.

    With `whiteouts`, names that begin with `.wh.` hide entries of lower layers, whatever their own type;
    without (the archive is not a layer) they are ordinary files.
    """
    shown = member.name[:_SHOWN]
    path = clean(member.name, shown)
    name = path.rpartition(b"/")[2]
    if whiteouts and name.startswith(WHITEOUT_PREFIX):
        return _whiteout(path, name, shown)
    if not path and member.kind != tar.DIRECTORY:
        raise FormatError(f"layer entry {shown!r} would replace the image's root directory")
    if member.kind in (tar.HARDLINK, tar.SYMLINK) and len(member.target) > bounds.PATH:
        raise FormatError(
            f"layer entry {shown!r} is a link to a path of {len(member.target)} bytes, over the "
            f"{bounds.PATH} that Linux takes"
        )
    if member.kind == tar.HARDLINK:
        target = clean(member.target, shown)
        if not target:
            raise FormatError(f"layer entry {shown!r} is a hard link to nothing")
        return Record(Kind.HARDLINK, path, content=target)
    record = Record(
        Kind.INODE,
        path,
        mode=_TYPES[member.kind] | member.mode,
        uid=member.uid,
        gid=member.gid,
        mtime=max(-_I64, min(member.mtime, _I64 - 1)),
        size=member.size,
        xattrs=_checked(member.xattrs, shown),
    )
    if member.kind == tar.SYMLINK:
        if not member.target or b"\0" in member.target:
            raise FormatError(f"layer entry {shown!r} is a symbolic link to {member.target[:_SHOWN]!r}")
        record.mode = stat.S_IFLNK | 0o777
        record.content = member.target
        record.size = len(member.target)
    elif member.kind in (tar.CHAR, tar.BLOCK_DEVICE):
        if not (0 <= member.major < 1 << 31 and 0 <= member.minor < 1 << 32):
            raise FormatError(f"layer entry {shown!r}: device {member.major}:{member.minor}")
        record.detail = member.major << 32 | member.minor
    return record


def clamped(member: tar.Member, record: Record) -> str | None:
    """Returns a short text that lists the entry's values which the record cannot keep; None if it keeps
    all."""
    if record.kind != Kind.INODE:
        return None
    changed = []
    if member.stated_uid != member.uid or member.stated_gid != member.gid:
        changed.append(f"owner {member.stated_uid}:{member.stated_gid} became {member.uid}:{member.gid}")
    if record.mtime != member.mtime:
        changed.append(f"time {member.mtime // 1_000_000_000} s became {record.mtime // 1_000_000_000} s")
    return ", ".join(changed) or None


def clean(path: bytes, shown: bytes) -> bytes:
    """Returns the path without empty and `.` parts; a leading `/` means the image's root. Raises FormatError
    for a `..` that leads above the root, a NUL, and names that the kernel refuses. `shown`: the name of the
    layer's entry in errors."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise FormatError(f"layer entry {shown!r}: {path[:_SHOWN]!r} leads out of the image")
            parts.pop()
            continue
        if len(part) > NAME_MAX or b"\0" in part:
            raise FormatError(f"layer entry {shown!r}: a name longer than {NAME_MAX} bytes or with NUL")
        parts.append(part)
    return b"/".join(parts)


def _whiteout(path: bytes, name: bytes, shown: bytes) -> Record:
    parent = path[: -len(name)].rstrip(b"/")
    if name == OPAQUE_NAME:
        return Record(Kind.OPAQUE, parent)
    hidden = name[len(WHITEOUT_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise FormatError(f"layer entry {shown!r} is a whiteout that names nothing")
    return Record(Kind.WHITEOUT, parent + b"/" + hidden if parent else hidden)


def _checked(xattrs: Xattrs, shown: bytes) -> Xattrs:
    kept = tuple((name, value) for name, value in xattrs if is_images(name))
    for name, value in kept:
        if not name or len(name) > NAME_MAX or b"\0" in name or len(value) > bounds.XATTR:
            raise FormatError(f"layer entry {shown!r}: extended attribute {name[:80]!r} is too long")
    names = sum(len(name) + 1 for name, _ in kept)
    if names > bounds.XATTR:
        raise FormatError(
            f"layer entry {shown!r}: the names of its extended attributes have {names} bytes, over the "
            f"{bounds.XATTR} that Linux takes"
        )
    return kept


class OlderRecords(FormatError):
    """The records are of version 1: the layer has to be read again, which puts its files into packs."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


def encode(records: list[Record]) -> Iterator[bytes]:
    """Yields the parts of a file of records."""
    yield MAGIC
    for start in range(0, len(records), BATCH):
        blob = _encoder.encode(records[start : start + BATCH])
        yield _LENGTH.pack(len(blob)) + blob


def decode(parts: Iterable[bytes], magic: bytes = MAGIC) -> Iterator[Record]:
    """Yields the records in a file of records, whose bytes come in parts of any size. Raises FormatError, and
    OlderRecords for version 1 unless `magic` asks for it."""
    buffer = bytearray()
    packs: dict[ObjectRef, ObjectRef] = {}
    started = False
    for part in parts:
        buffer += part
        if not started and len(buffer) >= len(MAGIC):
            if buffer.startswith(MAGIC_1) and magic == MAGIC:
                raise OlderRecords("layer records of version 1")
            if not buffer.startswith(magic):
                raise FormatError(f"not a file of layer records: it begins with {bytes(buffer[:8])!r}")
            del buffer[: len(MAGIC)]
            started = True
        while started and len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                break
            try:
                batch = _decoder.decode(buffer[_LENGTH.size : end])
            except msgspec.MsgspecError as error:
                raise FormatError(f"bad layer records: {error}") from None
            for record in batch:
                if record.pack is not None:  # hundreds of files share one
                    record.pack = packs.setdefault(record.pack, record.pack)
                yield record
            del buffer[:end]
    if not started or buffer:
        raise FormatError("a file of layer records is cut off")
