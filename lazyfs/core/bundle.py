"""Bundles: many small objects in one request.

Layout: magic `LZFB`, member count (u32, little-endian), then per member its digest (32 bytes), plaintext size
(u64), frame length (u32), and the zstd frame itself. A bundle's name is the SHA-256 of its member digests one
after another, so the name does not depend on the members' compression. Every member is verified by its own
digest and can be used as soon as it has arrived.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence

from lazyfs.core import bounds, codec
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import FormatError

MAGIC = b"LZFB"
MAX_MEMBERS = bounds.MEMBERS
MAX_MEMBER_SIZE = bounds.OBJECT

_HEADER = struct.Struct("<4sI")
_MEMBER = struct.Struct("<32sQI")


def name(digests: Iterable[Digest]) -> Digest:
    """The name of the bundle with these members, in this order."""
    return sha256(b"".join(digests))


def encode(members: list[tuple[ObjectRef, bytes]]) -> bytes:
    """A bundle of (object, its stored frame) pairs, in this order."""
    parts = [_HEADER.pack(MAGIC, len(members))]
    for ref, frame in members:
        parts.append(_MEMBER.pack(ref.digest, ref.size, len(frame)))
        parts.append(frame)
    return b"".join(parts)


class Reader:
    """Takes a bundle's bytes as they arrive and gives verified members as soon as each is whole."""

    def __init__(
        self,
        expected: Digest,
        members: Sequence[ObjectRef] | None = None,
        check_left: codec.Check = codec.unhurried,
    ) -> None:
        """`members`: the objects that the bundle must hold, in this order, and no others; None: any objects.
        `check_left` is called between blocks of a member; its exceptions are passed on."""
        self._expected = expected
        self._members = members
        self._check_left = check_left
        self._buffer = bytearray()
        self._count = -1
        self._digests: list[Digest] = []

    def feed(self, data: bytes) -> Iterator[tuple[ObjectRef, bytes]]:
        """Yields (object, plaintext); raises FormatError or DigestMismatch at the first wrong byte."""
        self._buffer += data
        if self._count < 0:
            if len(self._buffer) < _HEADER.size:
                return
            magic, self._count = _HEADER.unpack_from(self._buffer)
            if magic != MAGIC:
                raise FormatError("bundle without its magic")
            if self._count > MAX_MEMBERS:
                raise FormatError(f"bundle of {self._count} members, over {MAX_MEMBERS}")
            del self._buffer[: _HEADER.size]
        while len(self._digests) < self._count and len(self._buffer) >= _MEMBER.size:
            digest, size, length = _MEMBER.unpack_from(self._buffer)
            ref = ObjectRef(Digest(digest), size)
            self._check_listed(ref)
            if size > MAX_MEMBER_SIZE or length > codec.frame_bound(size):
                raise FormatError(f"bundle member {digest.hex()} claims {length} bytes for {size}")
            end = _MEMBER.size + length
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[_MEMBER.size : end])
            del self._buffer[:end]
            self._digests.append(ref.digest)
            yield ref, codec.open_object(frame, ref, self._check_left)
        if len(self._digests) == self._count and self._buffer:
            raise FormatError(f"{len(self._buffer)} bytes after the bundle's last member")

    def _check_listed(self, ref: ObjectRef) -> None:
        place = len(self._digests)
        if self._members is not None and (place >= len(self._members) or self._members[place] != ref):
            raise FormatError(f"bundle {self._expected.hex()} has a member {ref.digest.hex()} too many")

    def finish(self) -> None:
        """Raises FormatError unless every member has come and their digests give the bundle's name."""
        if self._count < 0 or len(self._digests) != self._count or self._buffer:
            raise FormatError(f"bundle ends after {len(self._digests)} of {max(self._count, 0)} members")
        if name(self._digests) != self._expected:
            raise FormatError(f"bundle {self._expected.hex()} has other members than its name says")
