"""The header and the table of a SIF file, as bytes. Integers are little-endian."""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from lazyfs.core.digest import sha256
from lazyfs.core.errors import FormatError

MAGIC, MAGIC_AT = b"SIF_MAGIC\0", 32
LAUNCH = b"#!/usr/bin/env run-singularity\n"
VERSION = b"01\0"
SQUASHFS_MAGIC = b"hsqs"

HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
"""The fields of the header: launch, magic, version, architecture, id, created, modified, free descriptors,
all descriptors, offset and bytes of the table, offset and bytes of the objects."""
DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
"""The fields of a descriptor: type, used, number, group, linked to, offset, bytes, bytes with padding,
created, modified, uid, gid, name, extra."""
_PARTITION = struct.Struct("<ii3s")
"""The first fields of a partition's `extra`: filesystem, use, architecture."""
MOST_DESCRIPTORS = 1024
"""The largest number of descriptors in a table that is read; Apptainer makes tables of 48."""
TABLE_AT, TABLE = 4096, 48
"""Offset of the table, and number of its descriptors, in the files that lazyfs writes; Apptainer uses the
same values."""
HEAD = TABLE_AT + TABLE * DESCRIPTOR.size
"""Offset of the first object in the files that lazyfs writes."""
ALIGNMENT = 4096
"""A partition begins at a multiple of this."""
_GROUP_BITS = 0xF0000000
_NAME = 128

ARCHITECTURES = {
    b"01": "386",
    b"02": "amd64",
    b"03": "arm",
    b"04": "arm64",
    b"05": "ppc64",
    b"06": "ppc64le",
    b"07": "mips",
    b"08": "mipsle",
    b"09": "mips64",
    b"10": "mips64le",
    b"11": "s390x",
    b"12": "riscv64",
}
"""Maps the code of an architecture in a SIF file to Go's name for it."""


class DataType(IntEnum):
    """The kinds of objects that are read here or written; a file may have others."""

    DEFINITION = 0x4001
    LABELS = 0x4003
    PARTITION = 0x4004
    JSON = 0x4006


class Filesystem(IntEnum):
    """The kind of filesystem in a partition."""

    SQUASHFS = 1
    EXT3 = 2
    ENCRYPTED_SQUASHFS = 5


class PartitionUse(IntEnum):
    """The purpose of a partition."""

    SYSTEM = 1
    PRIMARY = 2
    DATA = 3
    OVERLAY = 4


class Partition(NamedTuple):
    """The facts about a filesystem from the `extra` of its descriptor."""

    filesystem: int
    use: int
    architecture: str
    """Go's name of the architecture; empty if the code in the SIF file is unknown."""


class Descriptor(NamedTuple):
    """One object of the file, as the table describes it."""

    kind: int
    number: int
    offset: int
    size: int
    name: str
    partition: Partition | None


class SifHeader(NamedTuple):
    """The facts that the header states: those about the whole file, and where its table lies."""

    architecture: str
    created: int
    """Seconds since 1970."""
    table_offset: int
    table_size: int


def parse_header(data: bytes, size: int) -> SifHeader:
    """Reads the first bytes of a file of `size` bytes. Raises FormatError if they are not a SIF header."""
    if data[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
        what = "a bare squashfs filesystem without SIF header" if data.startswith(SQUASHFS_MAGIC) else ""
        raise FormatError(f"not a SIF file{f': {what}' if what else ''}")
    if len(data) < HEADER.size:
        raise FormatError("the SIF header is cut off")
    _, _, version, arch, _, created, _, _, total, offset, length, _, _ = HEADER.unpack_from(data)
    if version != VERSION:
        raise FormatError(f"SIF version {version!r} is unknown, only {VERSION!r} is read")
    if not 0 <= total <= MOST_DESCRIPTORS or length < total * DESCRIPTOR.size:
        raise FormatError(f"SIF header: a table of {total} descriptors in {length} bytes")
    table = total * DESCRIPTOR.size
    if not HEADER.size <= offset <= size - table:
        raise FormatError(f"SIF header: the table at {offset} lies outside of the file's {size} bytes")
    return SifHeader(ARCHITECTURES.get(arch[:2], ""), created, offset, table)


def parse_table(data: bytes, size: int) -> list[Descriptor]:
    """Reads the table of a file of `size` bytes; returns the descriptors in use. Raises FormatError for an
    object outside of the file, or a table that is cut off."""
    if len(data) % DESCRIPTOR.size:
        raise FormatError("the SIF table is cut off")
    found = []
    for kind, used, number, _, _, offset, length, _, _, _, _, _, name, extra in DESCRIPTOR.iter_unpack(data):
        if not used:
            continue
        if offset < HEADER.size or length < 0 or offset > size - length:
            raise FormatError(f"SIF object {number} at {offset} of {length} bytes lies outside of the file")
        partition = None
        if kind == DataType.PARTITION:
            filesystem, use, arch = _PARTITION.unpack_from(extra)
            partition = Partition(filesystem, use, ARCHITECTURES.get(arch[:2], ""))
        shown = name.split(b"\0", 1)[0].decode(errors="replace")
        found.append(Descriptor(kind, number, offset, length, shown, partition))
    return found


class NewObject(NamedTuple):
    """An object of a file that lazyfs writes."""

    kind: DataType
    name: str
    offset: int
    size: int
    partition: bytes = b""
    """The field `extra` of the object's descriptor, for a partition; empty for other objects."""


def partition_extra(architecture: str) -> bytes:
    """Returns the field `extra` of a descriptor for a primary squashfs partition. Raises FormatError for an
    architecture that SIF has no code for."""
    return _PARTITION.pack(Filesystem.SQUASHFS, PartitionUse.PRIMARY, _code(architecture))


def identity(digests: Iterable[bytes]) -> bytes:
    """Returns the id of a file with these contents, given by their digests: a UUID of version 8, which is
    made of a hash."""
    made = bytearray(sha256(b"sif" + b"".join(digests))[:16])
    made[6] = made[6] & 0x0F | 0x80
    made[8] = made[8] & 0x3F | 0x80
    return bytes(made)


def encode_head(
    objects: list[NewObject], architecture: str, identity: bytes, created: int, end: int
) -> bytes:
    """Returns the HEAD bytes of a file: header and table. `identity`: the file's id, 16 bytes. `created`:
    seconds since 1970. `end`: bytes of the file. Raises FormatError for an unknown architecture."""
    parts = [
        HEADER.pack(
            LAUNCH,
            MAGIC,
            VERSION,
            _code(architecture),
            identity,
            created,
            created,
            TABLE - len(objects),
            TABLE,
            TABLE_AT,
            TABLE * DESCRIPTOR.size,
            HEAD,
            end - HEAD,
        ).ljust(TABLE_AT, b"\0")
    ]
    before = HEAD
    for number, one in enumerate(objects, 1):
        padded = one.offset + one.size - before
        before = one.offset + one.size
        name = one.name.encode()[: _NAME - 1]
        fields = (one.kind, True, number, _GROUP_BITS | 1, 0, one.offset, one.size, padded, created, created)
        parts.append(DESCRIPTOR.pack(*fields, 0, 0, name, one.partition))
    return b"".join(parts).ljust(HEAD, b"\0")


def _code(architecture: str) -> bytes:
    for code, name in ARCHITECTURES.items():
        if name == architecture:
            return code + b"\0"
    known = ", ".join(ARCHITECTURES.values())
    raise FormatError(f"architecture {architecture!r} has no code in SIF, which knows {known}")
