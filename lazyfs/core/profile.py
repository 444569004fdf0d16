"""Profiles: the objects that starts of an image's programs touch, in order, and copies of its small files.

A profile is an object: a msgpack array of its version, its origin, its hot packs, a table of other objects,
and its programs. A *hot pack* is an object whose plaintext is the contents of small files, one after another.
It is listed with its files (digest, size), so each file's offset follows from the sizes of the files before
it, and files cannot overlap. A program lists hot packs and other objects in the order of first use, by
number: hot packs first, then the rows of the table. A hot pack that no program lists is one of an earlier
profile: readers use it if they have it, and never fetch it.

The profile is found through an attribute of the image's entry in its live folder, so a signature covers it,
and finding it costs no request. Clients that do not know the attribute ignore it.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Annotated

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import LIVE, Entry, Xattrs
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError

HINT = b"user.lazyfs.profile"
"""The attribute that leads to a profile. Its value: the profile's digest and size (u64, little-endian)."""
VERSION = 3
_OLDER = (b"\x92\x01", b"\x93\x02")
"""The first bytes of profiles of versions 1 and 2, which named bundles of objects."""
MAX_SIZE = bounds.PROFILE
"""The largest number of plaintext bytes of a profile."""
LEAST = 4096
"""The least number of bytes that an object counts as where a profile's bytes are bounded: the file of a tiny
object takes one block of a disk, and its request costs as much as another."""

_HINT = _OBJECT = struct.Struct("<32sQ")
_FILE = struct.Struct("<32sI")
_NUMBER = struct.Struct("<I")


class Origin(enum.StrEnum):
    """The source of a profile's list of objects."""

    RECORDED = "recorded"
    """A start of the image was traced."""
    IMPORTED = "imported"
    """A list of paths was given."""
    INHERITED = "inherited"
    """The paths are those of a profile of an earlier image of the same registry's repository."""
    GUESSED = "guessed"
    """Nobody traced a start: the objects are those of the image's command, and of the libraries and modules
    that it needs."""


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A profile as stored."""

    version: int
    origin: Origin
    packs: Annotated[list[tuple[bytes, bytes]], msgspec.Meta(max_length=bounds.HOT_PACKS)]
    """Digest of each hot pack, and its files."""
    objects: bytes
    programs: Annotated[list[tuple[str, bytes]], msgspec.Meta(max_length=bounds.PROGRAMS)]
    """Path of each program, and the numbers of its objects."""


_decoder = msgspec.msgpack.Decoder(_Stored)


class HotPack(msgspec.Struct, frozen=True):
    """Copies of small files in one object."""

    ref: ObjectRef
    files: tuple[ObjectRef, ...]
    """SHA-256 and size of each file, in the order of their contents."""

    def places(self) -> Iterator[tuple[int, ObjectRef]]:
        """Yields each file with its offset in the pack."""
        return zip(accumulate((file.size for file in self.files), initial=0), self.files, strict=False)


class Program(msgspec.Struct, frozen=True):
    """One program of an image, and the objects that its starts touch."""

    path: str
    """Path or name of the program; empty for starts of which the program is not known."""
    objects: tuple[ObjectRef, ...]
    """Hot packs, and objects of the image that are no small files, in the order of first use; each once."""


class Profile(msgspec.Struct, frozen=True):
    """A profile of one image."""

    origin: Origin
    packs: tuple[HotPack, ...]
    programs: tuple[Program, ...]

    def listed(self) -> list[HotPack]:
        """Returns the hot packs that at least one program lists; the profile's other hot packs are taken over
        from an earlier profile."""
        wanted = {ref for program in self.programs for ref in program.objects}
        return [pack for pack in self.packs if pack.ref in wanted]

    def contents(self, program: Program | None = None) -> list[ObjectRef]:
        """Returns the small files and other objects that starts of `program` touch, in order. If `program` is
        None, returns those of all programs."""
        files = {pack.ref: pack.files for pack in self.packs}
        listed = self.of() if program is None else program.objects
        return list(dict.fromkeys(one for ref in listed for one in files.get(ref, (ref,))))

    def common(self) -> list[ObjectRef]:
        """Returns the objects that all programs list, in the order of the first program."""
        first, *others = self.programs
        shared = set(first.objects).intersection(*(one.objects for one in others))
        return [ref for ref in first.objects if ref in shared]

    def of(self, program: str = "") -> list[ObjectRef]:
        """Returns the objects for a start of `program`, in the order of first use. If the profile does not
        list that program, returns the objects of all programs, one program after another."""
        known = [one for one in self.programs if _is_named(one.path, program)] if program else []
        return list(dict.fromkeys(ref for one in known or self.programs for ref in one.objects))


def _is_named(path: str, word: str) -> bool:
    """Returns True if `word`, the first word of a command, means the program at `path`. The word may be a
    path, or the last component of one."""
    if "/" in word and "/" in path:
        return path.lstrip("/") == word.lstrip("/")
    return bool(path) and path.rpartition("/")[2] == word.rpartition("/")[2]


def encode(made: Profile) -> bytes:
    """Returns the plaintext of a profile. Raises FormatError for one that no reader accepts."""
    numbers = {pack.ref: number for number, pack in enumerate(made.packs)}
    objects: list[ObjectRef] = []
    for program in made.programs:
        for ref in program.objects:
            if ref not in numbers:
                numbers[ref] = len(made.packs) + len(objects)
                objects.append(ref)
    stored = _Stored(
        VERSION,
        made.origin,
        [(pack.ref.digest, b"".join(_FILE.pack(*file) for file in pack.files)) for pack in made.packs],
        b"".join(_OBJECT.pack(*ref) for ref in objects),
        [(one.path, b"".join(_NUMBER.pack(numbers[ref]) for ref in one.objects)) for one in made.programs],
    )
    plain = msgspec.msgpack.encode(stored)
    if len(plain) > MAX_SIZE:
        raise FormatError(f"a profile of {len(plain)} bytes; readers take {MAX_SIZE} at most")
    if decode(plain) != made:
        raise FormatError("a profile that names a hot pack twice, or one of another size than its files have")
    return plain


def decode(plain: bytes) -> Profile:
    """Reads a profile. One of version 1 or 2 is read as one without programs. Raises FormatError."""
    if plain[:2] in _OLDER:
        return Profile(Origin.RECORDED, (), ())
    try:
        found = _decoder.decode(plain)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: text that is not UTF-8
        raise FormatError(f"bad profile: {error}") from None
    if found.version != VERSION:
        raise FormatError(f"profile of version {found.version}, not {VERSION}")
    if sum(len(files) for _, files in found.packs) > bounds.HOT_FILES * _FILE.size:
        raise FormatError(f"a profile lists more than {bounds.HOT_FILES} small files")
    packs = tuple(_hot_pack(digest, files) for digest, files in found.packs)
    refs = [pack.ref for pack in packs] + _objects(found.objects)
    if len({ref.digest for ref in refs}) != len(refs):
        raise FormatError("a profile lists an object twice")
    programs = tuple(_program(path, numbers, refs) for path, numbers in found.programs)
    if len({one.path for one in programs}) != len(programs):
        raise FormatError("a profile lists a program twice")
    return Profile(found.origin, packs, programs)


def _hot_pack(digest: bytes, packed: bytes) -> HotPack:
    if not packed or len(packed) % _FILE.size or len(digest) != 32:
        raise FormatError(f"a hot pack lists its files in {len(packed)} bytes")
    files = tuple(ObjectRef(Digest(file), size) for file, size in _FILE.iter_unpack(packed))
    if len({file.digest for file in files}) != len(files):
        raise FormatError("a hot pack lists a file twice")
    size = sum(file.size for file in files)
    if size > bounds.PACK or not all(file.size for file in files):
        raise FormatError(f"a hot pack of {size} bytes or with an empty file; {bounds.PACK} is the most")
    return HotPack(ObjectRef(Digest(digest), size), files)


def _objects(packed: bytes) -> list[ObjectRef]:
    if len(packed) % _OBJECT.size or len(packed) > bounds.PROFILE_OBJECTS * _OBJECT.size:
        raise FormatError(f"a profile lists its objects in {len(packed)} bytes")
    refs = [ObjectRef(Digest(digest), size) for digest, size in _OBJECT.iter_unpack(packed)]
    if not all(0 < ref.size <= bounds.OBJECT for ref in refs):
        raise FormatError(f"a profile lists an object outside 1 to {bounds.OBJECT} bytes")
    return refs


def _program(path: str, packed: bytes, refs: list[ObjectRef]) -> Program:
    if len(path.encode()) > bounds.PATH or "\0" in path:
        raise FormatError(f"a profile has a program with a path of {len(path)} characters")
    if not packed or len(packed) % _NUMBER.size or len(packed) > len(refs) * _NUMBER.size:
        raise FormatError(f"a program lists its objects in {len(packed)} bytes")
    numbers = [number for (number,) in _NUMBER.iter_unpack(packed)]
    if max(numbers) >= len(refs) or len(set(numbers)) != len(numbers):
        raise FormatError("a program lists an object twice, or one that its profile lacks")
    return Program(path, tuple(refs[number] for number in numbers))


def hint(profile: ObjectRef) -> tuple[bytes, bytes]:
    """Returns the attribute HINT with this profile: its digest and size (u64, little-endian)."""
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


def counted(size: int) -> int:
    """Returns the bytes that an object of `size` plaintext bytes counts as where a profile's bytes are
    bounded."""
    return max(size, LEAST)


def total(refs: Iterable[ObjectRef]) -> int:
    """Returns the plaintext bytes of these objects."""
    return sum(ref.size for ref in refs)
