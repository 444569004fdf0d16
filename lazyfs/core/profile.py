"""Profiles: the objects that a real start touched, and the bundles that carry them.

A profile is an object: a msgpack array of its version, its bundles and, unless a start was recorded, its
origin. Bundles come in the order in which a start wants them; each has its stored size and its members
(digest, plaintext size) one after another. A bundle's name follows from its members. The profile is found
through an attribute of the image's entry in its live folder, so a signature covers it, and finding it costs
no request. Clients that do not know the attribute ignore it.
"""

import enum
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
"""Version of the profile of a recorded start, which has no origin in it."""
VERSION_WITH_ORIGIN = 2
MAX_SIZE = bounds.PROFILE
"""Plaintext bytes of a profile."""
MAX_STORED = bounds.BUNDLE
"""Stored bytes of one bundle that a reader accepts."""

_Packed = Annotated[list[tuple[int, bytes]], msgspec.Meta(max_length=bounds.BUNDLES)]
_HINT = _MEMBER = struct.Struct("<32sQ")


class Origin(enum.StrEnum):
    """The source of a profile's list of objects."""

    RECORDED = "recorded"
    """A start of the image was traced."""
    IMPORTED = "imported"
    """A list of paths was given."""
    INHERITED = "inherited"
    """The paths are those of an earlier image of the repository."""
    GUESSED = "guessed"
    """Nobody traced a start: the objects are those of the image's command and of the libraries that it
    needs."""


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A profile as stored."""

    version: int
    bundles: _Packed
    origin: Origin = Origin.RECORDED


_decoder = msgspec.msgpack.Decoder(_Stored)


class Bundle(NamedTuple):
    """One bundle of a profile."""

    stored: int
    """Bytes of the file in the store."""
    members: tuple[ObjectRef, ...]

    @property
    def name(self) -> Digest:
        return bundle.name(ref.digest for ref in self.members)


def encode(bundles: list[Bundle], origin: Origin = Origin.RECORDED) -> bytes:
    """The plaintext of a profile."""
    packed = [[one.stored, b"".join(_MEMBER.pack(*ref) for ref in one.members)] for one in bundles]
    if origin is Origin.RECORDED:  # readers of version 1 only take these too
        return msgspec.msgpack.encode([VERSION, packed])
    return msgspec.msgpack.encode([VERSION_WITH_ORIGIN, packed, origin.value])


def decode(plain: bytes) -> list[Bundle]:
    """The bundles of a profile. Raises FormatError."""
    packed = _stored(plain).bundles
    if sum(len(members) for _, members in packed) > bounds.MEMBERS * _MEMBER.size:
        raise FormatError(f"a profile lists more than {bounds.MEMBERS} members")
    return [_bundle(stored, members) for stored, members in packed]


def origin_of(plain: bytes) -> Origin:
    """The source of a profile's list. Raises FormatError."""
    return _stored(plain).origin


def _stored(plain: bytes) -> _Stored:
    try:
        found = _decoder.decode(plain)
    except msgspec.MsgspecError as error:
        raise FormatError(f"bad profile: {error}") from None
    expected = VERSION if found.origin is Origin.RECORDED else VERSION_WITH_ORIGIN
    if found.version != expected:
        raise FormatError(f"profile of version {found.version} with origin {found.origin}, not {expected}")
    return found


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
    """The attribute that leads to a profile. Its value: the profile's digest and size (u64,
    little-endian)."""
    return HINT, _HINT.pack(profile.digest, profile.size)


def hinted(entry: Entry) -> ObjectRef | None:
    """Returns the profile that the attribute HINT of an image's entry names; None if the entry has no such
    attribute or an invalid one."""
    if not entry.xattrs or not entry.nested or entry.flags & LIVE:
        return None
    value = dict(entry.xattrs).get(HINT, b"")
    if len(value) != _HINT.size:
        return None
    digest, size = _HINT.unpack(value)
    return ObjectRef(Digest(digest), size) if 0 < size <= MAX_SIZE else None


def without_hint(xattrs: Xattrs) -> Xattrs:
    """Returns the attributes without HINT: those of the image itself."""
    return tuple(pair for pair in xattrs if pair[0] != HINT) if xattrs else xattrs
