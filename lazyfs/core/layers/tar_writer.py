"""Records as entries of a tar archive, byte for byte as Go's archive/tar writes them.

The tools that build images are written in Go. So a layer of theirs that is written again from its records, in
the dialect of its tool, often has its original bytes, and with them its diff_id. Names and values are bytes.
Values that a ustar header cannot hold go into a pax header before it.
"""

import posixpath
import stat
from typing import NamedTuple

from lazyfs.core.errors import FormatError
from lazyfs.core.layers import tar
from lazyfs.core.layers.pax import XATTR
from lazyfs.core.layers.record import OPAQUE_NAME, WHITEOUT_PREFIX, Kind, Record

END = bytes(2 * tar.BLOCK)
"""The two blocks of zeros that end an archive."""
_NAME, _PREFIX, _SECOND = 100, 155, 1_000_000_000
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHAR,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}


class Dialect(NamedTuple):
    """The details in which the archives of different image-building tools differ."""

    type_bits: bool = False
    """True if the mode field holds the type of the file besides its permissions."""
    prefix: bool = False
    """True if a long name is divided among two fields of the header where it can be."""
    root: bytes = b"./"
    """The name of the root directory."""


PLAIN = Dialect()
"""The dialect of BuildKit and containerd."""
DIALECTS = (
    PLAIN,
    Dialect(type_bits=True),
    Dialect(type_bits=True, prefix=True),
    Dialect(prefix=True, root=b"."),
)
"""The dialects: of BuildKit, of docker, of podman and buildah, of umoci."""


def padding(size: int) -> bytes:
    """Returns the zero bytes that follow a file's content of `size` bytes, up to the end of its last
    block."""
    return bytes(-size % tar.BLOCK)


def is_file(record: Record) -> bool:
    """Returns True if the record's header is followed by content."""
    return record.kind == Kind.INODE and stat.S_ISREG(record.mode)


def inode_header(record: Record, *, layer: bool, dialect: Dialect = PLAIN) -> bytes:
    """Returns the header of a file, directory, link or device. `layer`: the archive is a layer, in which a
    name that begins with `.wh.` would hide another. Raises FormatError for such a name, and for a kind that
    archives cannot hold."""
    kind = _KINDS.get(stat.S_IFMT(record.mode))
    if kind is None:
        raise FormatError(f"{record.path!r} is a socket, which no archive can hold")
    _check_name(record.path, layer)
    name = record.path
    if kind == tar.DIRECTORY:
        name = name + b"/" if name else dialect.root
    return _entry(
        name,
        kind,
        record,
        dialect,
        size=record.size if kind == tar.FILE else 0,
        target=record.content if kind == tar.SYMLINK else b"",
    )


def hardlink_header(
    path: bytes, target: bytes, first: Record, *, layer: bool, dialect: Dialect = PLAIN
) -> bytes:
    """Returns the header of a hard link. `path`: the name of the link. `first`: the record of the file that
    it links to. `target`: the name of this file in the archive. Raises FormatError as `inode_header`."""
    _check_name(path, layer)
    return _entry(path, tar.HARDLINK, first, dialect, target=target)


def whiteout_header(record: Record) -> bytes:
    """Returns the header of a whiteout or an opaque directory's mark."""
    folder, slash, name = record.path.rpartition(b"/")
    if record.kind == Kind.OPAQUE:
        path = record.path + b"/" + OPAQUE_NAME if record.path else OPAQUE_NAME
    else:
        path = folder + slash + WHITEOUT_PREFIX + name
    return _entry(path, tar.FILE, Record(Kind.INODE, path), PLAIN)


def document_header(name: bytes, size: int) -> bytes:
    """Returns the one-block header of a file of an image archive. `name`: at most 100 ASCII bytes."""
    header = bytearray(_block(name, tar.FILE, Record(Kind.INODE, name, mode=0o644), 0o644, 0, 0, b"", 0))
    header[124:136] = _number(size, 12)
    return _summed(header)


def _check_name(path: bytes, layer: bool) -> None:
    if layer and path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        raise FormatError(
            f"{path!r}: in a layer this name would hide another file; export the tree as tar: or sif:"
        )


def _entry(
    name: bytes, kind: bytes, record: Record, dialect: Dialect, *, size: int = 0, target: bytes = b""
) -> bytes:
    """Returns the header of an entry, with a pax header before it if one is needed."""
    records: dict[bytes, bytes] = {}
    for key, value in record.xattrs:
        if b"=" in key:
            raise FormatError(
                f"{name!r}: no archive can hold the extended attribute {key!r}, with = in its name"
            )
        records[XATTR + key] = value
    seconds, rest = divmod(record.mtime, _SECOND)
    texts = ((b"path", name), (b"linkpath", target))
    records |= {key: value for key, value in texts if len(value) > _NAME or not value.isascii()}
    if rest or seconds < 0 or seconds >= 8**11:
        records[b"mtime"] = _time(record.mtime)
    for key, number, most in ((b"uid", record.uid, 8**7), (b"gid", record.gid, 8**7), (b"size", size, 8**11)):
        if number >= most:
            records[key] = b"%d" % number
    device = record.detail if kind in (tar.CHAR, tar.BLOCK_DEVICE) else 0
    mode = record.mode if dialect.type_bits else record.mode & 0o7777
    prefix, rest_of_name = _divided(name) if dialect.prefix and set(records) == {b"path"} else (b"", b"")
    if prefix:
        header = bytearray(_block(rest_of_name, kind, record, mode, seconds, size, target, device))
        header[345 : 345 + len(prefix)] = prefix
        return _summed(header)
    header_block = _block(name, kind, record, mode, seconds, size, target, device)
    return _pax(name, records) + header_block if records else header_block


def _divided(name: bytes) -> tuple[bytes, bytes]:
    """Returns the two parts of a long name as a ustar header holds them; two empty ones if the header cannot
    hold the name."""
    if not name.isascii():
        return b"", b""
    length = min(len(name), _PREFIX + 1)
    if length == len(name) and name.endswith(b"/"):
        length -= 1
    at = name.rfind(b"/", 0, length)
    if at <= 0 or not 0 < len(name) - at - 1 <= _NAME:
        return b"", b""
    return name[:at], name[at + 1 :]


def _pax(name: bytes, records: dict[bytes, bytes]) -> bytes:
    """Returns a pax header with its records."""
    data = b"".join(_pax_record(key, value) for key, value in sorted(records.items()))
    folder, file = posixpath.split(name)
    folder = folder if folder.strip(b"/") else b""
    path = posixpath.normpath(posixpath.join(folder, b"PaxHeaders.0", file))
    path = _ascii(path)[:_NAME].rstrip(b"/")
    header = bytearray(tar.BLOCK)
    header[0 : len(path)] = path
    header[100:124] = b"0000000\0" * 3
    header[124:136] = b"%011o\0" % len(data)
    header[136:148] = b"%011o\0" % 0
    header[156:157] = b"x"
    return _summed(header) + data + padding(len(data))


def _pax_record(key: bytes, value: bytes) -> bytes:
    """Returns `LENGTH key=value`, whose length counts its own digits."""
    size = len(key) + len(value) + 3
    total = size + len(str(size))
    if size + len(str(total)) != total:
        total = size + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _time(nanoseconds: int) -> bytes:
    """Returns a time as the text of seconds with a decimal fraction."""
    seconds, rest = divmod(abs(nanoseconds), _SECOND)
    text = b"%d.%09d" % (seconds, rest) if rest else b"%d" % seconds
    return (b"-" if nanoseconds < 0 else b"") + text.rstrip(b"0" if rest else b"")


def _block(
    name: bytes, kind: bytes, record: Record, mode: int, seconds: int, size: int, target: bytes, device: int
) -> bytes:
    """Returns the ustar header. Values that do not fit into it are cut or 0; a pax header before it has them
    in full."""
    header = bytearray(tar.BLOCK)
    for start, text in ((0, name), (157, target)):
        text = _cut(_ascii(text))
        header[start : start + len(text)] = text
    header[100:108] = b"%07o\0" % mode
    header[108:116] = _octal(record.uid, 7)
    header[116:124] = _octal(record.gid, 7)
    header[124:136] = _octal(size, 11)
    header[136:148] = _octal(seconds, 11)
    header[156:157] = kind
    header[329:337] = _number(device >> 32, 8)
    header[337:345] = _number(device & 0xFFFF_FFFF, 8)
    return _summed(header)


def _ascii(text: bytes) -> bytes:
    """Returns the text without the bytes that are not ASCII."""
    return text if text.isascii() else bytes(byte for byte in text if byte < 128)


def _cut(text: bytes) -> bytes:
    """Returns the part of a name that fits its field. The part must not end in `/`: old readers would take
    the file for a directory."""
    if len(text) > _NAME and text[_NAME - 1 : _NAME] == b"/":
        return text[: _NAME - 1].rstrip(b"/")
    return text[:_NAME]


def _octal(value: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)


def _number(value: int, width: int) -> bytes:
    """Returns a field of `width` bytes: octal digits, or base 256 for a larger number (GNU tar, star, Go)."""
    if value < 8 ** (width - 1):
        return _octal(value, width - 1)
    return bytes((0x80,)) + value.to_bytes(width - 1, "big")


def _summed(header: bytearray) -> bytes:
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
