"""The small files that lie in hot packs, which the profiles of images list, by their SHA-256.

A slice of a hot pack is used only if it has the SHA-256 that a signed catalog states for the file. So a wrong
list costs time, but no reader gets a wrong byte. A hot pack with one wrong slice is not used again.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.profile import Profile

MOST: Final = 2 * bounds.HOT_FILES
"""The largest number of files, of all profiles together, that are remembered: some 40 MB. If there are more,
the oldest profile is dropped."""
COPIES: Final = 8
"""The largest number of copies of one file that are remembered. Two or three profiles list a file; a hostile
one could list it 4,096 times."""
Read = Callable[[ObjectRef, int, int], bytes | None]
"""A function that returns bytes [start, start + length) of an object; None if the object is not in the local
cache."""


class Copy:
    """The place of a file in a hot pack, according to a profile."""

    __slots__ = ("pack", "proven", "size", "start")

    def __init__(self, pack: ObjectRef, start: int, size: int) -> None:
        self.pack = pack
        self.start = start
        self.size = size
        self.proven = False
        """True once the slice was seen to have the file's SHA-256. The pack's bytes cannot change: its name
        is their digest."""


class HotFiles:
    """The copies of one repository's small files. Reads may be made in any thread; profiles are added and
    dropped in one."""

    def __init__(self) -> None:
        self._copies: dict[Digest, tuple[Copy, ...]] = {}
        self._profiles: dict[Digest, Profile] = {}
        self.wrong: set[Digest] = set()
        """Hot packs in which a slice does not have the SHA-256 that the profile lists for it."""

    def __contains__(self, file: bytes) -> bool:
        return file in self._copies

    def add(self, name: Digest, profile: Profile) -> None:
        """Remembers the places that a profile lists. `name`: the profile's digest."""
        if name in self._profiles:
            return
        self._profiles[name] = profile
        self._remember(profile)
        while sum(map(_files, self._profiles.values())) > MOST:
            self.drop(next(iter(self._profiles)))

    def drop(self, name: Digest) -> None:
        """Forgets the places that a profile lists, except those that another remembered profile lists too."""
        if self._profiles.pop(name, None) is not None:
            self._copies = {}
            for profile in self._profiles.values():
                self._remember(profile)

    def _remember(self, profile: Profile) -> None:
        for pack in profile.packs:
            for start, file in pack.places():
                known = self._copies.get(file.digest, ())
                if len(known) < COPIES and not any(copy.pack == pack.ref for copy in known):
                    self._copies[file.digest] = (*known, Copy(pack.ref, start, file.size))

    def packs(self, file: ObjectRef) -> Iterator[ObjectRef]:
        """Yields the hot packs that have a copy of a file according to the remembered profiles. A pack for
        which a profile states another size of the file is left out, as `read` leaves it out."""
        for copy in self._copies.get(file.digest, ()):
            if copy.size == file.size and copy.pack.digest not in self.wrong:
                yield copy.pack

    def read(
        self, file: ObjectRef, start: int, length: int, fetched: Mapping[Digest, bytes], read: Read
    ) -> tuple[Digest, bytes] | None:
        """Returns part of a file, cut at its end, and the hot pack that the part was taken from. Returns None
        if no hot pack with a correct copy of the file is in `fetched` or can be read by `read`."""
        length = max(min(length, file.size - start), 0)  # the next file lies right behind
        for copy in self._copies.get(file.digest, ()):
            pack, first = copy.pack, copy.start
            if pack.digest in self.wrong or copy.size != file.size:
                continue
            whole = fetched.get(pack.digest)
            if copy.proven:
                at = first + start
                found = read(pack, at, length) if whole is None else whole[at : at + length]
                if found is not None:
                    return pack.digest, found
                continue
            content = read(pack, first, file.size) if whole is None else whole[first : first + file.size]
            if content is None:
                continue
            if sha256(content) != file.digest:
                self.wrong.add(pack.digest)
                continue
            copy.proven = True
            return pack.digest, content[start : start + length]
        return None


def _files(profile: Profile) -> int:
    return sum(len(pack.files) for pack in profile.packs)
