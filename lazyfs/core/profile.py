"""Profiles: the objects that a real start touched, and the bundles that carry them.

A profile is an object: a msgpack array of a version and of its bundles in the order in which a start wants
them, each with its stored size and its members (digest, plaintext size) one after another. A bundle's name
follows from its members. An attribute of the image's entry in its live folder leads to the profile, so a
signature covers it, and finding it costs no request. Clients that do not know the attribute ignore it.
"""

import struct
from typing import Annotated, NamedTuple

import msgspec

from lazyfs.core import bounds, bundle
from lazyfs.core.catalog.entry import LIVE, Entry, Xattrs
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError

HINT = b"user.lazyfs.profile"
"""The attribute that leads to a profile. Its value: the profile's digest and size (u64, little-endian)."""
VERSION = 1
MAX_SIZE = bounds.PROFILE
"""Plaintext bytes of a profile."""
MAX_STORED = bounds.BUNDLE
"""Stored bytes of one bundle that a reader accepts."""

_Packed = Annotated[list[tuple[int, bytes]], msgspec.Meta(max_length=bounds.BUNDLES)]
_decoder = msgspec.msgpack.Decoder(tuple[int, _Packed])
_HINT = _MEMBER = struct.Struct("<32sQ")


class Bundle(NamedTuple):
    """One bundle of a profile."""

    stored: int
    """Bytes of the file in the store."""
    members: tuple[ObjectRef, ...]

    @property
    def name(self) -> Digest:
        return bundle.name(ref.digest for ref in self.members)


def encode(bundles: list[Bundle]) -> bytes:
    """The plaintext of a profile."""
    packed = [[one.stored, b"".join(_MEMBER.pack(*ref) for ref in one.members)] for one in bundles]
    return msgspec.msgpack.encode([VERSION, packed])


def decode(plain: bytes) -> list[Bundle]:
    """The bundles of a profile. Raises FormatError."""
    try:
        version, packed = _decoder.decode(plain)
    except msgspec.MsgspecError as error:
        raise FormatError(f"bad profile: {error}") from None
    if version != VERSION:
        raise FormatError(f"profile of version {version}, not {VERSION}")
    if sum(len(members) for _, members in packed) > bounds.MEMBERS * _MEMBER.size:
        raise FormatError(f"a profile lists more than {bounds.MEMBERS} members")
    return [_bundle(stored, members) for stored, members in packed]


def _bundle(stored: int, packed: bytes) -> Bundle:
    if not 0 < stored <= MAX_STORED:
        raise FormatError(f"a profile's bundle of {stored} bytes is outside 1 to {MAX_STORED}")
    if not packed or len(packed) % _MEMBER.size or len(packed) > bundle.MAX_MEMBERS * _MEMBER.size:
        raise FormatError(f"a profile's bundle lists its members in {len(packed)} bytes")
    members = tuple(ObjectRef(Digest(digest), size) for digest, size in _MEMBER.iter_unpack(packed))
    if any(ref.size > bundle.MAX_MEMBER_SIZE for ref in members):
        raise FormatError("a profile's bundle has a member that no bundle can hold")
    return Bundle(stored, members)


def hint(profile: ObjectRef) -> tuple[bytes, bytes]:
    """The attribute that leads to a profile."""
    return HINT, _HINT.pack(profile.digest, profile.size)


def hinted(entry: Entry) -> ObjectRef | None:
    """The profile that an image's entry leads to; None if there is none or its attribute is invalid."""
    if not entry.xattrs or not entry.nested or entry.flags & LIVE:
        return None
    value = dict(entry.xattrs).get(HINT, b"")
    if len(value) != _HINT.size:
        return None
    digest, size = _HINT.unpack(value)
    return ObjectRef(Digest(digest), size) if 0 < size <= MAX_SIZE else None


def without_hint(xattrs: Xattrs) -> Xattrs:
    """The attributes that are the image's own."""
    return tuple(pair for pair in xattrs if pair[0] != HINT) if xattrs else xattrs
