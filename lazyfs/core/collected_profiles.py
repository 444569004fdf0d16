"""The list of the profiles that a collector has made: which profile is for which program of which image.

The list is an object, named by the one target of metadata/profiles.json, which a delegated key signs. It is a
msgpack array: version, then for each image the digest of its top catalog and its profiles, each with the path
of the program, and the digest and size of the profile.
"""

from typing import Annotated, Final, NamedTuple

import msgspec

from lazyfs.core import bounds, profile
from lazyfs.core.digest import SIZE as DIGEST_SIZE
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError

VERSION: Final = 1
MOST_IMAGES: Final = 4096
MOST_PROGRAMS: Final = 64
"""Most programs of one image."""
MAX_SIZE: Final = 4 << 20
"""Plaintext bytes of a list."""

_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
_Program = Annotated[bytes, msgspec.Meta(min_length=1, max_length=bounds.PATH)]
_Size = Annotated[int, msgspec.Meta(gt=0, le=profile.MAX_SIZE)]
_Image = tuple[
    _Digest, Annotated[list[tuple[_Program, _Digest, _Size]], msgspec.Meta(max_length=MOST_PROGRAMS)]
]


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A list as stored."""

    version: int
    images: Annotated[list[_Image], msgspec.Meta(max_length=MOST_IMAGES)]


class CollectedProfile(NamedTuple):
    """The profile of one program of one image."""

    image: Digest
    """The image's top catalog."""
    program: bytes
    """Path of the executable below the image's root."""
    profile: ObjectRef


_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(profiles: list[CollectedProfile]) -> bytes:
    """Returns the plaintext of a list: equal profiles in any order give equal bytes."""
    images: dict[Digest, list[tuple[bytes, bytes, int]]] = {}
    for one in sorted(profiles):
        images.setdefault(one.image, []).append((one.program, *one.profile))
    return msgspec.msgpack.encode([VERSION, list(images.items())])


def decode(plain: bytes) -> list[CollectedProfile]:
    """Returns the profiles of a list. Raises FormatError."""
    if len(plain) > MAX_SIZE:
        raise FormatError(f"a list of profiles of {len(plain)} bytes is over {MAX_SIZE}")
    try:
        found = _decoder.decode(plain)
    except msgspec.MsgspecError as error:
        raise FormatError(f"bad list of profiles: {error}") from None
    if found.version != VERSION:
        raise FormatError(f"list of profiles of version {found.version}, not {VERSION}")
    return [
        CollectedProfile(Digest(image), program, ObjectRef(Digest(digest), size))
        for image, programs in found.images
        for program, digest, size in programs
    ]
