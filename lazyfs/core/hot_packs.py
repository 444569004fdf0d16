"""Divides the small files of a profile among hot packs. Pure.

Files that are read by the same programs form a group. So a start fetches no files of other programs, and a
file that several programs read is stored once. Within it, files that the earlier profile did not have are
apart from the others: a worker with the earlier hot packs fetches only what is new to it. A group's files are
in the order of first use. The content of a file decides if a pack ends after the file (see `core.pack`). If
the order is that of an earlier profile, a changed file therefore changes only the pack around it. A pack of
the earlier profile is listed again if nearly all of its files are still wanted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.pack import Cutter
from lazyfs.core.profile import HotPack

Files = tuple[ObjectRef, ...]
"""The files of one pack."""


class CutLimits(NamedTuple):
    """The sizes of hot packs, in plaintext bytes."""

    least: int = 3 << 19
    target: int = 3 << 20
    most: int = bounds.PACK
    first: int = 512 << 10
    """The number of bytes at the beginning of a start for which packs have a thirty-second of these sizes: a
    start waits for these packs, and only 2 MB of a profile are fetched before one of them is used."""
    early: int = 4 << 20
    """The number of bytes at the beginning of a start for which packs have at most a quarter of these
    sizes."""
    apart: int = 128 << 10
    """Groups of fewer bytes than this are joined into one, since each group costs at least one request."""

    def parts(self, before: int, *, is_first: bool) -> int:
        """Returns the number that the sizes are divided by for a pack whose first file is read after `before`
        bytes of a start. `is_first`: True if the profile replaces no earlier one."""
        # What has changed once changes again, and what lies beside it in its pack is packed again with it.
        # Computed for ten nights that change 20% of the files each: large packs take a quarter more bytes.
        if before < self.first:
            return 32
        return 1 if is_first and before >= self.early else 4


LIMITS: Final = CutLimits()
SPARE: Final = 0.03
"""The largest number of bytes that earlier packs may hold in vain, as a share of a profile's bytes: in files
that are not wanted any more, or that another earlier pack holds too."""
SMALL_PACKS: Final = 8
"""The largest number of earlier packs below the least size that are listed again, for each group. If there
are more, their files are packed anew: otherwise every change of a few files would add a pack, and so a
request."""


def cut(
    programs: Mapping[str, Sequence[Digest]],
    sizes: Mapping[Digest, int],
    earlier: Sequence[HotPack] = (),
    limits: CutLimits = LIMITS,
) -> tuple[list[HotPack], list[Files]]:
    """Returns the earlier packs to list again, and the files of each new pack.

    `programs`: the small files that each program reads, in the order of first use. `sizes`: the bytes of each
    of these files. `earlier`: the packs of the profile that this one replaces.
    """
    users: dict[Digest, set[str]] = {}
    before: dict[Digest, int] = {}
    for name, digests in programs.items():
        read = 0
        for digest in digests:
            users.setdefault(digest, set()).add(name)
            before[digest] = min(read, before.get(digest, read))
            read += sizes[digest]
    readers = {digest: frozenset(names) for digest, names in users.items()}
    cutting = _Cutting(sizes, readers, before, limits, is_first=not earlier)
    kept = cutting.kept(earlier)
    known = {file.digest for pack in earlier for file in pack.files}
    held = {file.digest for pack in kept for file in pack.files}
    return kept, [
        files
        for is_known in (True, False)
        for files in cutting.packs(one for one in users if one not in held and (one in known) is is_known)
    ]


class _Cutting(NamedTuple):
    """The files to be divided, and the limits."""

    sizes: Mapping[Digest, int]
    users: Mapping[Digest, frozenset[str]]
    """The programs that read each file."""
    before: Mapping[Digest, int]
    """The bytes that a start has read before each file; of several programs, the fewest."""
    limits: CutLimits
    is_first: bool
    """True if there are no earlier packs."""

    def kept(self, earlier: Sequence[HotPack]) -> list[HotPack]:
        """Returns the earlier packs to list again: those of which nearly all bytes are still wanted, and of
        which all wanted files are read by the same programs. Observes SPARE and SMALL_PACKS."""
        spare = SPARE * sum(self.sizes[digest] for digest in self.users)
        kept: list[HotPack] = []
        taken: set[Digest] = set()
        rated = []
        for number, pack in enumerate(earlier):
            gone = sum(file.size for file in pack.files if file.digest not in self.users)
            readers = {self.users[file.digest] for file in pack.files if file.digest in self.users}
            if gone <= pack.ref.size // 8 and len(readers) == 1:
                rated.append((gone, number, pack))
        for gone, _, pack in sorted(rated):
            again = sum(file.size for file in pack.files if file.digest in taken)
            if gone + again <= spare:
                spare -= gone + again
                kept.append(pack)
                taken.update(file.digest for file in pack.files)
        small: dict[frozenset[str], list[HotPack]] = {}
        for pack in kept:
            wanted = [file.digest for file in pack.files if file.digest in self.users]
            before = min(self.before[digest] for digest in wanted)
            if pack.ref.size < self.limits.least // self.limits.parts(before, is_first=False):
                small.setdefault(self.users[wanted[0]], []).append(pack)
        anew = {pack.ref for packs in small.values() if len(packs) > SMALL_PACKS for pack in packs}
        return [pack for pack in kept if pack.ref not in anew]

    def packs(self, files: Iterable[Digest]) -> Iterator[Files]:
        """Yields packs of these files. Keeps the files that the same programs read together."""
        groups: dict[frozenset[str], list[ObjectRef]] = {}
        for digest in files:
            groups.setdefault(self.users[digest], []).append(ObjectRef(digest, self.sizes[digest]))
        joined: list[ObjectRef] = []
        for group in groups.values():
            if sum(file.size for file in group) < self.limits.apart:
                joined += group
            else:
                yield from self._of_group(group)
        yield from self._of_group(joined)

    def _of_group(self, files: Iterable[ObjectRef]) -> Iterator[Files]:
        least, target, most = self.limits[:3]
        held: list[ObjectRef] = []
        cutter: Cutter | None = None
        for file in files:
            if cutter is not None and cutter.begins(file.size):
                yield tuple(held)
                held, cutter = [], None
            if cutter is None:
                parts = self.limits.parts(self.before[file.digest], is_first=self.is_first)
                cutter = Cutter(least // parts, target // parts, most // parts)
            held.append(file)
            if cutter.ends(file.size, file.digest):
                yield tuple(held)
                held, cutter = [], None
        if held:
            yield tuple(held)
