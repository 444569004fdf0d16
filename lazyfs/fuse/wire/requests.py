"""The arguments in a request's bytes. Pure: each function returns arguments or raises Malformed."""

from typing import NamedTuple

from lazyfs.fuse.wire.protocol import (
    BATCH_FORGET_IN,
    FORGET_IN,
    FORGET_ONE,
    GETXATTR_IN,
    INTERRUPT_IN,
    READ_IN,
)


class Malformed(Exception):
    """A request whose bytes do not fit its opcode."""


class Range(NamedTuple):
    """The range that READ, READDIR and READDIRPLUS ask for."""

    offset: int
    size: int


def name(payload: bytes) -> bytes:
    """Returns the one name of a LOOKUP, without the zero byte that ends it."""
    found, end, rest = payload.partition(b"\0")
    if not found or not end or rest:
        raise Malformed(f"{payload[:40]!r} is not one name")
    return found


def range_of(payload: bytes) -> Range:
    """Returns offset and size in bytes; for directories the offset counts entries."""
    if len(payload) < READ_IN.size:
        raise Malformed(f"{len(payload)} bytes are too few for a read")
    _, offset, size, *_ = READ_IN.unpack_from(payload)
    if offset >= 1 << 63:
        raise Malformed(f"offset {offset} is negative")
    return Range(offset, size)


def forgets(payload: bytes) -> list[tuple[int, int]]:
    """Returns the (nodeid, lookups) pairs of BATCH_FORGET."""
    if len(payload) < BATCH_FORGET_IN.size:
        raise Malformed(f"{len(payload)} bytes are too few for a batch")
    count, _ = BATCH_FORGET_IN.unpack_from(payload)
    end = BATCH_FORGET_IN.size + count * FORGET_ONE.size
    if end > len(payload):
        raise Malformed(f"a batch of {count} does not fit {len(payload)} bytes")
    return list(FORGET_ONE.iter_unpack(payload[BATCH_FORGET_IN.size : end]))


def forget(payload: bytes) -> int:
    """Returns the number of lookups that FORGET gives back."""
    if len(payload) < FORGET_IN.size:
        raise Malformed(f"{len(payload)} bytes are too few to forget")
    found: int = FORGET_IN.unpack_from(payload)[0]
    return found


def interrupted(payload: bytes) -> int:
    """Returns the unique number of the request to be interrupted."""
    if len(payload) < INTERRUPT_IN.size:
        raise Malformed(f"{len(payload)} bytes are too few for an interrupt")
    found: int = INTERRUPT_IN.unpack_from(payload)[0]
    return found


def xattr_size(payload: bytes) -> int:
    """Returns the bytes of room that GETXATTR or LISTXATTR offers; 0 asks for the size."""
    if len(payload) < GETXATTR_IN.size:
        raise Malformed(f"{len(payload)} bytes are too few for an extended attribute")
    found: int = GETXATTR_IN.unpack_from(payload)[0]
    return found


def xattr_name(payload: bytes) -> bytes:
    """Returns the name of the attribute that GETXATTR asks for."""
    return name(payload[GETXATTR_IN.size :])
