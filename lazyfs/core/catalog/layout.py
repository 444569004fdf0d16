"""The bytes of a catalog object.

    magic `LZFCAT` + version (u16) | header length, directories, entries (u32 each)
    header: msgpack array of `Header`
    directory table: five columns of u32, one item per directory: offset of its blob, length of its blob,
        index of its first entry, index of its own entry, number of its parent directory
    blobs: msgpack array of `Entry`, sorted by name as raw bytes

Integers are little-endian; offsets count from the first blob. Directory 0 is the catalog's root and has entry
index 0. The others follow breadth first, so the entries of directory k have the indexes first[k] ...
first[k+1]-1. The index of an entry never changes.
"""

import struct
from typing import Annotated, NamedTuple

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import U32, Entry
from lazyfs.core.errors import FormatError

MAGIC = b"LZFCAT"
VERSION = 2
READABLE = (1, 2)
"""Versions that are read. Catalogs of version 1 name no packs; an upgraded repository still has some."""
PREFIX = struct.Struct("<6sHIII")
COLUMNS = 5
MAX_SIZE = bounds.OBJECT
"""The largest number of plaintext bytes of a catalog that a reader accepts."""

Count = Annotated[int, msgspec.Meta(ge=0, le=bounds.COUNT)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=bounds.BYTES)]


class Totals(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Totals of a subtree, nested catalogs included. Each catalog counts the bytes of a hardlink group
    once."""

    entries: Count = 0
    files: Count = 0
    bytes: Bytes = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self.entries + other.entries, self.files + other.files, self.bytes + other.bytes)


class Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The catalog's description of itself."""

    root: Entry
    """The directory the catalog hangs at, with an empty name. The entry of a snapshot in its parent catalog
    has the same fields."""
    live: bool
    """True for a folder above images. A live catalog holds one directory only; its subdirectories are all
    nested."""
    totals: Totals
    nested: Annotated[tuple[tuple[U32, Totals], ...], msgspec.Meta(max_length=bounds.ENTRIES)] = ()
    """(entry index, totals) of each nested catalog, sorted by index."""
    shared: Annotated[tuple[tuple[U32, bytes], ...], msgspec.Meta(max_length=bounds.SHARED)] = ()
    """In a snapshot's top catalog: (id, path of the first name below the top) of each hardlink group with
    names in several catalogs, sorted by id."""
    packs: Annotated[bytes, msgspec.Meta(max_length=36 * bounds.PACKS)] = b""
    """The packs that files of this catalog lie in, in the order of their first use: see PackTable."""


class Table(NamedTuple):
    """The directory table's columns while a catalog is made."""

    offsets: list[int]
    lengths: list[int]
    firsts: list[int]
    owns: list[int]
    parents: list[int]


_entry_list = msgspec.msgpack.Encoder()


def encode_entries(entries: list[Entry]) -> bytes:
    """Returns the encoded entries of one directory, its blob."""
    return _entry_list.encode(entries)


def encode(header: Header, owns: list[int], parents: list[int], directories: list[list[Entry]]) -> bytes:
    """Returns the plaintext of a catalog. `directories`: the entries of each directory, breadth first.
    `owns`, `parents`: for each directory the index of its own entry, and the number of its parent. Raises
    FormatError for a catalog that readers would refuse."""
    table = Table([], [], [], owns, parents)
    blobs = []
    offset, first = 0, 1
    for entries in directories:
        blob = encode_entries(entries)
        blobs.append(blob)
        table.offsets.append(offset)
        table.lengths.append(len(blob))
        table.firsts.append(first)
        offset += len(blob)
        first += len(entries)
    encoded = _entry_list.encode(header)
    size = PREFIX.size + len(encoded) + 4 * COLUMNS * len(directories) + offset
    for what, count, most in (
        ("entries", first - 1, bounds.ENTRIES),
        ("bytes", size, MAX_SIZE),
        ("bytes of header", len(encoded), bounds.CATALOG_HEADER),
        ("hardlink groups across catalogs", len(header.shared), bounds.SHARED),
    ):
        if count > most:
            raise FormatError(f"a directory's catalog has {count} {what}, and readers take {most} at most")
    columns = [struct.pack(f"<{len(column)}I", *column) for column in table]
    prefix = PREFIX.pack(MAGIC, VERSION, len(encoded), len(directories), first)
    return b"".join([prefix, encoded, *columns, *blobs])
