"""The dynamic section of an ELF file: the libraries that it needs, and the directories to look for them in.
Pure.

The bytes come from a stranger, and perhaps not all of them have been fetched. Bounds limit all that is read.
No bytes raise an exception other than NotAtHand: a file that is broken, or no ELF file, counts as one that
needs no libraries.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

MAGIC: Final = b"\x7fELF"
HEADER: Final = 64
"""Bytes of the header of a 64-bit file; a 32-bit one is shorter."""
SEGMENTS: Final = 64
"""The largest number of segments that are read."""
TAGS: Final = 512
"""The largest number of entries of the dynamic section that are read; the largest library of a distribution
has 60."""
NEEDED: Final = 128
"""The largest number of libraries that are taken from one file."""
NAME: Final = 255
"""The largest number of bytes of a library's name."""
PATHS: Final = 4096
"""The largest number of bytes of a list of directories."""

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_WRITABLE = 2
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29

Read = Callable[[int, int], bytes | None]
"""A function that returns bytes [offset, offset + length) of the file, cut at its end; None if they have not
been fetched."""


class NotAtHand(Exception):
    """The answer needs bytes of the file that have not been fetched."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset
        """Offset of the first missing byte."""


class Dynamic(NamedTuple):
    """The entries of a file's dynamic section that tell the dynamic linker which libraries to load, and from
    where."""

    needed: tuple[bytes, ...]
    """Names of libraries, DT_NEEDED."""
    rpath: bytes
    """Directories separated by colons, DT_RPATH; empty if DT_RUNPATH is there."""
    runpath: bytes
    is_64: bool


NOTHING: Final = Dynamic((), b"", b"", True)


class _Layout(NamedTuple):
    """The struct formats of an ELF file's tables for one class (32 or 64 bits) and one byte order."""

    is_64: bool
    header: struct.Struct
    """Reads e_phoff, which follows 32 bytes of a 64-bit header, or 28 of a 32-bit one."""
    counts: struct.Struct
    """Reads e_phentsize and e_phnum."""
    segment: struct.Struct
    tag: struct.Struct


def _layout(is_64: bool, order: str) -> _Layout:
    if is_64:
        formats = ("Q", "HH", "IIQQQQQQ", "qQ")
    else:
        formats = ("I", "HH", "IIIIIIII", "iI")
    return _Layout(is_64, *(struct.Struct(order + one) for one in formats))


_LAYOUTS = {
    (number, byte): _layout(number == 2, order) for number in (1, 2) for byte, order in ((1, "<"), (2, ">"))
}


class _Segment(NamedTuple):
    kind: int
    offset: int
    address: int
    size: int
    """Bytes of the segment in the file."""
    flags: int


def dynamic(read: Read) -> Dynamic:
    """Returns the libraries and directories that a file's dynamic section names; NOTHING for a file that is
    broken or has no such section. Raises NotAtHand."""
    try:
        return _dynamic(read)
    except (struct.error, IndexError):  # cut off
        return NOTHING


def interpreter(read: Read) -> bytes:
    """Returns the path of the dynamic linker that a program's header names; empty if it names none, and for a
    file that is no ELF file. Raises NotAtHand."""
    place = next((one for one in _all_segments(read)[1] if one.kind == _INTERPRETER), None)
    return _text(read, place.offset, NAME) if place else b""


def linked_parts(read: Read) -> list[tuple[int, int]]:
    """Returns the parts (offset, length) of a file that the dynamic linker itself reads: the first segment,
    which has the header, the symbols and the relocations, and all writable segments. Empty for a file that is
    no ELF file. Raises NotAtHand."""
    loaded = [one for one in _all_segments(read)[1] if one.kind == _LOAD]
    return [(one.offset, one.size) for one in loaded if one is loaded[0] or one.flags & _WRITABLE]


def _all_segments(read: Read) -> tuple[_Layout | None, list[_Segment]]:
    """Returns the layout and the segments of a file; (None, []) for a file that is no ELF file."""
    try:
        head = _bytes(read, 0, HEADER)
        layout = _LAYOUTS.get((head[4], head[5])) if head.startswith(MAGIC) else None
        return layout, _segments(read, head, layout) if layout else []
    except (struct.error, IndexError):  # cut off
        return None, []


def _dynamic(read: Read) -> Dynamic:
    layout, segments = _all_segments(read)
    if layout is None:
        return NOTHING
    place = next((one for one in segments if one.kind == _DYNAMIC), None)
    if place is None:
        return NOTHING
    length = min(place.size, TAGS * layout.tag.size)
    data = _bytes(read, place.offset, length)
    needed: list[int] = []
    values: dict[int, int] = {}
    for tag, value in layout.tag.iter_unpack(data[: len(data) // layout.tag.size * layout.tag.size]):
        if tag == 0:
            break
        if tag == _DT_NEEDED and len(needed) < NEEDED:
            needed.append(value)
        elif tag in (_DT_STRTAB, _DT_RPATH, _DT_RUNPATH):
            values[tag] = value
    table = _offset(segments, values.get(_DT_STRTAB, -1))
    if table is None:
        return NOTHING
    names = (_text(read, table + value, NAME) for value in needed)
    runpath = _text(read, table + values[_DT_RUNPATH], PATHS) if _DT_RUNPATH in values else b""
    rpath = b""
    if _DT_RPATH in values and not runpath:
        rpath = _text(read, table + values[_DT_RPATH], PATHS)
    return Dynamic(tuple(name for name in names if name), rpath, runpath, layout.is_64)


def _segments(read: Read, head: bytes, layout: _Layout) -> list[_Segment]:
    (start,) = layout.header.unpack_from(head, 32 if layout.is_64 else 28)
    each, count = layout.counts.unpack_from(head, 54 if layout.is_64 else 42)
    if each != layout.segment.size:
        return []
    count = min(count, SEGMENTS)
    data = _bytes(read, start, count * each)
    found = []
    for fields in layout.segment.iter_unpack(data[: len(data) // each * each]):
        if layout.is_64:
            kind, flags, offset, address, _, size, *_ = fields
        else:
            kind, offset, address, _, size, _, flags, *_ = fields
        found.append(_Segment(kind, offset, address, size, flags))
    return found


def _offset(segments: list[_Segment], address: int) -> int | None:
    """Returns the file offset of an address in memory; None if no loaded segment holds the address."""
    for one in segments:
        if one.kind == _LOAD and one.address <= address < one.address + one.size:
            return address - one.address + one.offset
    return None


def _text(read: Read, offset: int, most: int) -> bytes:
    """Returns the NUL-terminated string at `offset`; empty if it is longer than `most` bytes."""
    text, end, _ = _bytes(read, offset, most + 1).partition(b"\0")
    return text if end else b""


def _bytes(read: Read, offset: int, length: int) -> bytes:
    if offset >= 1 << 63:
        return b""
    found = read(offset, length)
    if found is None:
        raise NotAtHand(offset)
    return found
