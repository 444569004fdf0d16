"""Digests: an object's only name is the SHA-256 of its plaintext."""

import hashlib
from typing import NamedTuple, NewType

from lazyfs.core.errors import DigestMismatch, FormatError

Digest = NewType("Digest", bytes)
"""A SHA-256 as 32 raw bytes."""

SIZE = 32
EMPTY = Digest(hashlib.sha256(b"").digest())


class ObjectRef(NamedTuple):
    """An object as metadata names it: its digest, and the size of its plaintext in bytes."""

    digest: Digest
    size: int


class ObjectSlice(NamedTuple):
    """A range of an object's plaintext: the part of a chunk or pack that a reader wants."""

    ref: ObjectRef
    start: int
    length: int


def sha256(plain: bytes | bytearray | memoryview) -> Digest:
    """Returns the digest of these plaintext bytes."""
    return Digest(hashlib.sha256(plain).digest())


def ref_of(plain: bytes) -> ObjectRef:
    """Returns the name and size of an object with these plaintext bytes."""
    return ObjectRef(sha256(plain), len(plain))


def parse_hex(text: str) -> Digest:
    """Returns a digest from 64 lower-case hex digits, with or without the prefix `sha256:`.

    Raises FormatError for anything else.
    """
    digits = text.removeprefix("sha256:")
    if len(digits) != 2 * SIZE or digits.strip("0123456789abcdef"):
        raise FormatError(f"digest {text!r} is not 64 lower-case hex digits")
    return Digest(bytes.fromhex(digits))


def object_path(digest: Digest) -> str:
    """Returns the path of an object below the address of its store: `data/ab/cdef...`."""
    digits = digest.hex()
    return f"data/{digits[:2]}/{digits[2:]}"


def check(plain: bytes, ref: ObjectRef) -> bytes:
    """Returns the bytes unchanged if they are the object; raises DigestMismatch otherwise."""
    if len(plain) != ref.size:
        raise DigestMismatch(f"object {ref.digest.hex()}: {len(plain)} bytes instead of {ref.size}")
    actual = sha256(plain)
    if actual != ref.digest:
        raise DigestMismatch(f"object {ref.digest.hex()}: its bytes hash to {actual.hex()}")
    return plain
