"""Extended headers of POSIX.1-2001 archives (pax), as bytes: names and values need not be UTF-8."""

import re

from lazyfs.core.digits import MOST, natural
from lazyfs.core.errors import FormatError

Records = dict[bytes, bytes]
Sparse = list[tuple[int, int]]
"""(offset, length) of each run of data in the expanded file, in order."""

XATTR = b"SCHILY.xattr."
_TIME = re.compile(rb"(-?)(\d+)(?:\.(\d*))?")
_SIGNED = re.compile(rb"-?\d{1,19}")


def parse(data: bytes) -> tuple[Records, Sparse]:
    """Returns the records of one extended header, and the runs of data that a GNU 0.0 sparse map in it
    states. Of equal keys the last one counts, except in that map, whose keys repeat in order. Raises
    FormatError."""
    records: Records = {}
    runs: Sparse = []
    offset: int | None = None
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space]
        length = natural(digits) if space >= 0 else None
        if length is None:
            if not data[position:].strip(b"\0"):
                break
            raise FormatError(f"pax header: {data[position : position + 20]!r} is not the length of a record")
        end = position + length
        equals = data.find(b"=", space, end)
        if end > len(data) or equals <= space + 1 or data[end - 1 : end] != b"\n":
            raise FormatError(f"pax header: bad record {data[position : position + 40]!r}")
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if key == b"GNU.sparse.offset":
            offset = number(key, value)
        elif key == b"GNU.sparse.numbytes":
            if offset is None:
                raise FormatError("pax header: GNU.sparse.numbytes without an offset before it")
            runs.append((offset, number(key, value)))
            offset = None
        records[key] = value
        position = end
    return records, runs


def number(key: bytes, value: bytes) -> int:
    """Returns the number in a decimal field. Raises FormatError that names the field."""
    found = natural(value)
    if found is None or found >= MOST:
        raise FormatError(f"pax header: {key.decode(errors='replace')} is {value[:40]!r}, not a number")
    return found


def identifier(key: bytes, value: bytes) -> int:
    """Returns a user or group id, which some writers make negative. Raises FormatError that names the
    field."""
    if not _SIGNED.fullmatch(value):
        raise FormatError(f"pax header: {key.decode()} is {value[:40]!r}, not a number")
    return int(value)


def nanoseconds(key: bytes, value: bytes) -> int:
    """Returns a decimal time in seconds as exact nanoseconds. Digits beyond the ninth are cut off, and so are
    seconds beyond 10^19. Raises FormatError."""
    match = _TIME.fullmatch(value)
    if not match:
        raise FormatError(f"pax header: {key.decode()} is {value[:40]!r}, not a time")
    fraction = (match[3] or b"")[:9].ljust(9, b"0")
    digits = match[2].lstrip(b"0") or b"0"
    seconds = int(digits) if len(digits) < 20 else 10**19
    total = seconds * 1_000_000_000 + int(fraction)
    return -total if match[1] else total


def xattrs(records: Records) -> tuple[tuple[bytes, bytes], ...]:
    """Returns the extended attributes in pax records, sorted by name, with unchanged values."""
    found = ((key[len(XATTR) :], value) for key, value in records.items() if key.startswith(XATTR))
    return tuple(sorted(found))


def sparse_map(text: bytes) -> Sparse:
    """Returns the runs of a GNU 0.1 sparse map: offset,length,offset,length,... in decimal. Raises
    FormatError."""
    fields = text.split(b",") if text else []
    if len(fields) % 2:
        raise FormatError("pax header: GNU.sparse.map has an odd count of numbers")
    numbers = [number(b"GNU.sparse.map", field) for field in fields]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def check_sparse(runs: Sparse, size: int) -> Sparse:
    """Returns the runs unchanged; raises FormatError unless they are in order and inside a file of `size`
    bytes."""
    previous = 0
    for offset, length in runs:
        if offset < previous or length < 0 or offset + length > size:
            raise FormatError(f"sparse file: data at {offset}+{length} of {size} overlaps or overruns")
        previous = offset + length
    return runs
