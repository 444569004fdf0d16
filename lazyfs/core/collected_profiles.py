"""The list of the profiles that a collector of start reports has made: which profile is for which image.

The list is an object. It is named by the one target of metadata/profiles.json, which a delegated key signs.
It is a msgpack array: version, then for each image the digest of its top catalog, and the digest and size of
its profile. There is one profile for each image; a profile lists the objects of each program separately.
"""

from typing import Annotated, Final, NamedTuple

import msgspec

from lazyfs.core import profile
from lazyfs.core.digest import SIZE as DIGEST_SIZE
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError

VERSION: Final = 1
MOST_IMAGES: Final = 4096
MAX_SIZE: Final = 4 << 20
"""The largest number of plaintext bytes of a list."""

_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
_Size = Annotated[int, msgspec.Meta(gt=0, le=profile.MAX_SIZE)]


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A list as stored."""

    version: int
    images: Annotated[list[tuple[_Digest, _Digest, _Size]], msgspec.Meta(max_length=MOST_IMAGES)]


class CollectedProfile(NamedTuple):
    """The profile of one image."""

    image: Digest
    """The digest of the image's top catalog."""
    profile: ObjectRef


_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(profiles: list[CollectedProfile]) -> bytes:
    """Returns the plaintext of a list: equal profiles in any order give equal bytes."""
    return msgspec.msgpack.encode([VERSION, [(one.image, *one.profile) for one in sorted(profiles)]])


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
        CollectedProfile(Digest(image), ObjectRef(Digest(digest), size))
        for image, digest, size in found.images
    ]
