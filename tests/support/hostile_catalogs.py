"""Signed nonsense: catalogs that are valid except for one or two fields with extreme values.

A `Draft` is a catalog before encoding, as plain lists. Its fields can hold any value, because it is encoded
without the publisher's checks. `changes` yields each extreme value of each field in turn.
"""

import copy
import stat
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from lazyfs.core import bounds, profile
from lazyfs.core.catalog.entry import NESTED, packed_detail
from lazyfs.core.catalog.layout import MAGIC, PREFIX, VERSION
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef, ref_of, sha256
from lazyfs.core.pack import PackTable
from tests.support.images import Objects

POWERS = (7, 8, 12, 15, 16, 17, 20, 24, 26, 31, 32, 48, 62, 63)
NUMBERS: tuple[int, ...] = tuple(
    sorted(
        {
            0,
            1,
            2,
            3,
            4,
            5,
            9,
            12,
            25,
            *(1 << power for power in POWERS),
            *((1 << power) - 1 for power in POWERS),
        }
    )
)
"""Extreme numbers, up to 2**63, which no field accepts."""
SIGNED = tuple(-number for number in NUMBERS[1:])
TEXTS = (
    b"", b".", b"..", b"/", b"a/b", b"a\0b", b"\x1b[2J\n", b"\xff\xfe", b"n" * 255, b"n" * 256,
    b"../" * 20 + b"etc/passwd", b"/proc/self/root", bytes(31), bytes(32), bytes(33), b"t" * 4095,
    b"t" * 4096, b"t" * 70_000, bytes(64), bytes(96), bytes(32 * 33),
)  # fmt: skip
FILE_TYPES = (
    stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, 0,
)  # fmt: skip
"""The file type bits of a mode: all existing types, and no type."""
TYPES = tuple(kind | 0o7777 for kind in FILE_TYPES)
OTHER: tuple[Any, ...] = (None, "text", [], [[]], 1.5, {b"a": 1}, True)

PLACES = tuple(
    packed_detail(number, offset)
    for number in (0, 1, 2, bounds.PACKS - 1, bounds.PACKS, (1 << 30) - 1)
    for offset in (0, 1, 4091, 4092, 4096, bounds.PACK - 5, bounds.PACK, (1 << 32) - 1)
)
"""Values for the field that locates a file in a pack: existing and missing packs, offsets inside and outside
the pack."""

NAME, MODE, UID, GID, MTIME, SIZE, CONTENT, DETAIL, NLINK, LINK, FLAGS, XATTRS = range(12)
_ATTRIBUTES: tuple[Any, ...] = (
    [[b"", b""]], [[b"user.a", b""]] * 2, [[b"user.b", b""], [b"user.a", b""]], [[b"user.a", bytes(70_000)]],
    [[b"n" * 300, b"v"]], [[b"user.%05d" % number, b""] for number in range(9000)],
    [[profile.HINT, bytes(40)]],
    [[b"trusted.overlay.opaque", b"y"]], [[b"security.capability", bytes(20)]],
)  # fmt: skip

Change = tuple[str, Any, Any, Any]
"""(part of the catalog, place in the part, field, new value)."""


class Draft:
    """A catalog before encoding: a header, a table of five columns, and lists of entries."""

    def __init__(self, header: list[Any], directories: list[list[list[Any]]]) -> None:
        self.header = header
        self.directories = directories
        self.owns = [0]
        self.parents = [0]
        self.table: dict[tuple[int, int], int] = {}
        """(column, directory) -> a value that replaces the right one."""
        self.prefix: dict[int, Any] = {}
        """Field of the prefix -> a value that replaces the right one."""

    def encode(self) -> bytes:
        """Returns the encoded catalog. Raises OverflowError or struct.error if a number does not fit into
        msgpack or a column."""
        header = msgspec.msgpack.encode(self.header)
        rows: list[list[int]] = []
        blobs, offset, first = [], 0, 1
        for number, entries in enumerate(self.directories):
            blob = msgspec.msgpack.encode(entries)
            rows.append([offset, len(blob), first, self.owns[number], self.parents[number]])
            blobs.append(blob)
            offset, first = offset + len(blob), first + len(entries)
        for (column, number), value in self.table.items():
            rows[number][column] = value
        prefix = [MAGIC, VERSION, len(header), len(rows), first]
        for field, value in self.prefix.items():
            prefix[field] = value
        columns = [struct.pack(f"<{len(rows)}I", *column) for column in zip(*rows, strict=True)]
        return b"".join((PREFIX.pack(*prefix), header, *columns, *blobs))

    def changed(self, change: Change) -> "Draft":
        """Returns a copy with one value changed."""
        made = copy.deepcopy(self)
        part, where, field, value = change
        if part == "entry":
            made.directories[where[0]][where[1]][field] = value
        elif part == "root":
            made.header[0][field] = value
        elif part == "header":
            made.header[field] = value
        elif part == "table":
            made.table[field, where] = value
        else:
            made.prefix[field] = value
        return made


def entry(name: bytes, mode: int, **fields: Any) -> list[Any]:
    """Returns the twelve fields of an entry."""
    names = ("uid", "gid", "mtime", "size", "content", "detail", "nlink", "link", "flags", "xattrs")
    given: dict[str, Any] = dict(zip(names, (0, 0, 0, 0, b"", 0, 1, 0, 0, []), strict=True)) | fields
    return [name, mode, *(given[one] for one in names)]


def draft(objects: Objects) -> Draft:
    """Returns a valid catalog with an entry of each type, hardlinks in it and across catalogs, and a nested
    catalog."""
    small = objects.put(b"small")
    chunks = [objects.put(bytes([number]) * 4096) for number in range(3)]
    listed = objects.put(ChunkList.encode(chunks, 10_000, 12))
    directory = stat.S_IFDIR | 0o755
    inner = Draft([entry(b"", directory, size=4096, nlink=2), False, [1, 1, 5], [], []], [])
    inner.directories = [[entry(b"far", stat.S_IFREG | 0o600, size=5, content=small, nlink=2, link=-7)]]
    nested = ref_of(inner.encode())
    objects.put(inner.encode())
    made = Draft(
        [
            entry(b"", directory, size=4096, nlink=4),
            False,
            [14, 10, 10_035],
            [[8, [1, 1, 5]]],
            [[7, b"near"]],
            PackTable.of([ObjectRef(digest, 4096) for digest in chunks[:2]]).encoded,
        ],
        [],
    )
    made.directories = [
        [
            entry(b"chunked", stat.S_IFREG | 0o4755, size=10_000, content=listed, detail=12),
            entry(b"device", stat.S_IFCHR | 0o600, detail=1 << 32 | 3),
            entry(b"directory", directory, size=4096, detail=1, nlink=2),
            entry(b"empty", stat.S_IFREG | 0o644),
            entry(b"fifo", stat.S_IFIFO | 0o600),
            entry(b"link", stat.S_IFLNK | 0o777, size=5, content=b"small"),
            entry(b"near", stat.S_IFREG | 0o600, size=5, content=small, nlink=2, link=-7),
            entry(
                b"nested",
                directory,
                size=4096,
                content=nested.digest,
                detail=nested.size,
                flags=NESTED,
                nlink=2,
            ),
            entry(b"one", stat.S_IFREG | 0o600, size=5, content=small, nlink=2, link=9),
            entry(
                b"packed",
                stat.S_IFREG | 0o600,
                size=5,
                content=sha256(b"\1" * 5),
                detail=packed_detail(1, 4000),
            ),
            entry(b"small", stat.S_IFREG | 0o600, size=5, content=small, xattrs=[[b"user.a", b"b"]]),
            entry(b"socket", stat.S_IFSOCK | 0o600),
        ],
        [entry(b"two", stat.S_IFREG | 0o600, size=5, content=small, nlink=2, link=9)],
    ]
    made.owns, made.parents = [0, 3], [0, 0]
    return made


def live(names: dict[bytes, ObjectRef]) -> bytes:
    """Returns the encoded catalog of a live folder that holds these catalogs."""
    return live_draft(names).encode()


def live_draft(names: dict[bytes, ObjectRef]) -> Draft:
    """Returns the draft of a live folder that holds these catalogs."""
    top = entry(b"", stat.S_IFDIR | 0o755, size=4096, nlink=2 + len(names))
    made = Draft([top, True, [len(names), 0, 0], [], [], b""], [[]])
    for number, (name, ref) in enumerate(sorted(names.items()), 1):
        fields = {"size": 4096, "content": ref.digest, "detail": ref.size, "flags": NESTED, "nlink": 2}
        made.directories[0].append(entry(name, stat.S_IFDIR | 0o755, **fields))
        made.header[3].append([number, [1, 1, 1]])
    return made


def chunk_list(digests: list[bytes], shift: int) -> bytes:
    """Returns an encoded chunk list of whole chunks."""
    return struct.pack("<4sB3xQ", b"LZFC", shift, len(digests) << shift) + b"".join(digests)


def changes(right: Draft) -> Iterator[Change]:
    """Yields a change for every extreme value of every field of a catalog."""
    numbers = (*NUMBERS, *SIGNED, 1 << 63, *OTHER)
    values: dict[int, tuple[Any, ...]] = {
        NAME: (*TEXTS, *OTHER),
        MODE: (*TYPES, *NUMBERS, *OTHER),
        CONTENT: (*TEXTS, *OTHER),
        DETAIL: (*numbers, *PLACES),
        FLAGS: (*range(9), *numbers),
        XATTRS: (*_ATTRIBUTES, *OTHER),
    }
    for number, entries in enumerate(right.directories):
        for position in range(len(entries)):
            for field in range(12):
                for value in values.get(field, numbers):
                    yield "entry", (number, position), field, value
    for field in range(12):
        for value in values.get(field, numbers):
            yield "root", None, field, value
    for value in (True, False, *OTHER):
        yield "header", None, 1, value
    for number in numbers:
        yield "header", None, 2, [number, 1, 1]
        yield "header", None, 2, [1, 1, number]
        yield "header", None, 3, [[number, [1, 1, 1]]]
        yield "header", None, 4, [[number, b"near"]]
    for text in TEXTS:
        yield "header", None, 4, [[7, text]]
    for packs in (*TEXTS, *OTHER, *(bytes(36 * count) for count in (1, 1 << 16, (1 << 16) + 1))):
        yield "header", None, 5, packs
    for size in (0, 1, 4004, bounds.PACK, bounds.PACK + 1, (1 << 32) - 1):
        yield "header", None, 5, struct.pack("<32sI", bytes(32), size) * 2
    yield "header", None, 3, [[1, [1, 1, 1]]] * 200_000
    yield "header", None, 4, [[number, b"near"] for number in range(1, 100_000)]
    for column in range(5):
        for number in range(len(right.directories)):
            for value in (one for one in NUMBERS if one < 1 << 32):
                yield "table", number, column, value
    for field in range(1, 5):
        for value in (one for one in NUMBERS if one < (1 << 16 if field == 1 else 1 << 32)):
            yield "prefix", None, field, value


def with_changes(right: Draft, some: list[Change]) -> bytes | None:
    """Returns the encoded catalog with these changes. Returns None if it cannot be encoded, or if the changes
    are incompatible."""
    try:
        for change in some:
            right = right.changed(change)
        return right.encode()
    except (OverflowError, struct.error, IndexError, TypeError, msgspec.EncodeError, ValueError):
        return None


def hostile_lists(objects: Objects) -> Iterator[tuple[bytes, int, int]]:
    """Yields (chunk list, file size, shift), as a catalog could state them. The lists are invalid, or name
    missing chunks."""
    for size in (1, 4096, 10_000, 1 << 20, 1 << 30, (1 << 18) << 12):
        for shift in (12, 16, 24):
            count = min(-(-size >> shift), 300)
            head = struct.pack("<4sB3xQ", b"LZFC", shift, size)
            yield head + bytes(32) * count, size, shift
            yield head + sha256(objects[objects.put(b"small")]) * count, size, shift
    for number in NUMBERS:
        yield (
            struct.pack("<4sB3xQ", b"LZFC", number & 0xFF, min(number, (1 << 64) - 1)) + bytes(96),
            10_000,
            12,
        )
    for text in TEXTS:
        yield text, 10_000, 12


def hostile_profiles() -> Iterator[bytes]:
    """Yields encoded profiles that name too many objects, or are invalid."""
    for number in (*NUMBERS, *SIGNED, *OTHER):
        yield msgspec.msgpack.encode([1, [[number, bytes(40)]]])
        yield msgspec.msgpack.encode([number, []])
    for text in TEXTS:
        yield text
        yield msgspec.msgpack.encode([1, [[100, text]]])
    yield msgspec.msgpack.encode([1, [[100, bytes(32) + number.to_bytes(8, "little")] for number in NUMBERS]])
    yield msgspec.msgpack.encode([1, [[1, sha256(b"%d" % number) + bytes(8)] for number in range(5000)]])
    yield msgspec.msgpack.encode([1, [[1000, sha256(b"%d" % number) + bytes(8)] for number in range(250)]])


def hinting(tree: ObjectRef, made: ObjectRef) -> list[Any]:
    """Returns an entry of a live folder for the image `tree`, whose profile is the object `made`."""
    name, value = profile.hint(made)
    fields = {"content": tree.digest, "detail": tree.size, "flags": NESTED, "nlink": 2, "size": 4096}
    return entry(made.digest.hex().encode(), stat.S_IFDIR | 0o755, **fields, xattrs=[[name, value]])
