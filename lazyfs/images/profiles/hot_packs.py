"""Writes profiles: the hot packs with copies of small files, and the list for each program."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import DigestMismatch
from lazyfs.core.hot_packs import LIMITS, cut
from lazyfs.core.profile import HotPack, Origin, Profile, Program, encode
from lazyfs.images.profiles.contents import ImageContents, TouchedContent
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest

MOST = 512 << 20
"""The largest number of plaintext bytes in a profile. Contents beyond it are left out: a program that touches
more is past its start."""
AT_HAND = 16
"""The largest number of packs whose bytes are kept while files are copied from them."""

Touched = Mapping[str, Iterable[Digest]]
"""Maps a program to the objects and small files that its starts touch, in the order of first use."""


class WrittenProfile(NamedTuple):
    """A profile that has been stored."""

    ref: ObjectRef
    profile: Profile
    left_out: int
    """Number of contents that were left out, because they are too many for a profile."""


class ProfileWriter:
    """Writes profiles of one image."""

    def __init__(self, tree: StoredTree, top: ObjectRef, ingest: Ingest) -> None:
        """`top`: the image's top catalog."""
        self._contents = ImageContents(tree, top)
        self._ingest = ingest
        self._read = lru_cache(AT_HAND)(tree.read)

    def write(
        self, touched: Touched, origin: Origin, earlier: Profile | None = None
    ) -> WrittenProfile | None:
        """Stores a profile; returns None if nothing of the image was touched.

        `earlier`: the profile that the new one replaces, or from which it is inherited; hot packs of the
        earlier profile that hold files of the new one are used again. Raises DigestMismatch or FormatError
        for a damaged object, and StoreError.
        """
        resolved = {name: self._contents.resolve(digests) for name, digests in touched.items()}
        resolved = {name: one for name, one in resolved.items() if one}
        if not resolved:
            return None
        within, left_out = self._within_bounds(resolved)
        small = {name: [ref.digest for ref, is_small in one if is_small] for name, one in within.items()}
        sizes = {digest: self._contents.files[digest].file_size for one in small.values() for digest in one}
        before = [pack for pack in earlier.listed() if self._ingest.has(pack.ref.digest)] if earlier else []
        kept, new = cut(small, sizes, earlier=before, limits=LIMITS)
        packs = [*kept, *map(self._put, new)]
        held = {file.digest: pack.ref for pack in reversed(packs) for file in pack.files}
        listed = {pack.ref for pack in packs}
        copies = [pack for pack in before if pack.ref not in listed and _holds(pack, sizes)]
        programs = tuple(
            Program(
                name, tuple(dict.fromkeys(held[ref.digest] if is_small else ref for ref, is_small in one))
            )
            for name, one in within.items()
        )
        made = _fitting(origin, packs, copies, programs)
        return WrittenProfile(self._ingest.put(encode(made)), made, left_out)

    def _within_bounds(
        self, resolved: Mapping[str, list[TouchedContent]]
    ) -> tuple[dict[str, list[TouchedContent]], int]:
        """Returns, for each program, the contents that fit into the bounds of a profile; and the number of
        contents that are left out."""
        taken: set[ObjectRef] = set()
        left_out: set[ObjectRef] = set()
        size, files, objects = 0, bounds.HOT_FILES, bounds.PROFILE_OBJECTS
        within: dict[str, list[TouchedContent]] = {}
        for name, one in list(resolved.items())[: bounds.PROGRAMS]:
            kept = within[name] = []
            for found in one:
                ref, small = found
                if ref not in taken:
                    if size + ref.size > MOST or not (files if small else objects):
                        left_out.add(ref)
                        continue
                    size, files, objects = size + ref.size, files - small, objects - (not small)
                    taken.add(ref)
                kept.append(found)
        return within, len(left_out)

    def _put(self, files: Sequence[ObjectRef]) -> HotPack:
        """Stores a hot pack of these files and returns its description. Raises DigestMismatch if the bytes of
        a file do not match its digest."""
        places = {file: self._contents.files[file.digest] for file in files}
        copied: dict[ObjectRef, bytes] = {}
        for file in sorted(files, key=lambda file: (places[file].ref, places[file].start)):
            found = places[file]
            copied[file] = self._read(found.ref)[found.start : found.start + file.size]
            if sha256(copied[file]) != file.digest:  # a damaged file must not be spread
                raise DigestMismatch(f"pack {found.ref.digest.hex()} has not the file {file.digest.hex()}")
        return HotPack(self._ingest.put(b"".join(copied[file] for file in files)), tuple(files))


def _holds(pack: HotPack, sizes: Mapping[Digest, int]) -> bool:
    return any(file.digest in sizes for file in pack.files)


def _fitting(
    origin: Origin, packs: Sequence[HotPack], copies: Sequence[HotPack], programs: tuple[Program, ...]
) -> Profile:
    """Returns the profile of these packs and programs. Adds earlier hot packs (`copies`) that hold files of
    the profile, as many as the bounds leave room for."""
    files = bounds.HOT_FILES - sum(len(pack.files) for pack in packs)
    room = bounds.HOT_PACKS - len(packs)
    found = list(packs)
    for pack in copies[: max(room, 0)]:
        files -= len(pack.files)
        if files < 0:
            break
        found.append(pack)
    return Profile(origin, tuple(found), programs)
