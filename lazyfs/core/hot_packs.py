"""Divides the small files of a profile among hot packs. Pure.

Files that are read by the same programs form a group. So a start fetches no files of other programs, and a
file that several programs read is stored once. A group's files are in the order of first use. The content of
a file decides if a pack ends after the file (see `core.pack`). If the order is that of an earlier profile, a
changed file therefore changes only the pack around it. A pack of the earlier profile is listed again if
nearly all of its files are still wanted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.pack import Cutter
from lazyfs.core.profile import HotPack

Files = tuple[ObjectRef, ...]
"""The files of one pack."""


class CutLimits(NamedTuple):
    """The sizes of hot packs, in plaintext bytes."""

    least: int = 256 << 10
    target: int = 768 << 10
    most: int = 1280 << 10
    first: int = 512 << 10
    """The number of bytes at the beginning of a group that are cut into packs of an eighth of the usual
    sizes: a start waits for these packs."""
    apart: int = 128 << 10
    """Groups of fewer bytes than this are joined into one, since each group costs at least one request."""


LIMITS: Final = CutLimits()
SPARE: Final = 0.03
"""The largest number of bytes that earlier packs may hold in vain, as a share of a profile's bytes: in files
that are not wanted any more, or that another earlier pack holds too."""


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
    for name, digests in programs.items():
        for digest in digests:
            users.setdefault(digest, set()).add(name)
    kept = _kept(earlier, users, sizes)
    held = {file.digest for pack in kept for file in pack.files}
    groups: dict[frozenset[str], list[ObjectRef]] = {}
    for digest, names in users.items():
        if digest not in held:
            groups.setdefault(frozenset(names), []).append(ObjectRef(digest, sizes[digest]))
    joined: list[ObjectRef] = []
    made: list[Files] = []
    for group in groups.values():
        if sum(file.size for file in group) < limits.apart:
            joined += group
        else:
            made += _packs(group, limits)
    return kept, made + _packs(joined, limits)


def _kept(
    earlier: Sequence[HotPack], users: Mapping[Digest, set[str]], sizes: Mapping[Digest, int]
) -> list[HotPack]:
    """Returns the earlier packs to list again: those of which nearly all bytes are still wanted, and of which
    all wanted files are read by the same programs. Observes SPARE. `users`: the programs that read each file.
    `sizes`: the bytes of each file."""
    spare = SPARE * sum(sizes[digest] for digest in users)
    kept: list[HotPack] = []
    taken: set[Digest] = set()
    rated = []
    for number, pack in enumerate(earlier):
        gone = sum(file.size for file in pack.files if file.digest not in users)
        readers = {frozenset(users[file.digest]) for file in pack.files if file.digest in users}
        if gone <= pack.ref.size // 8 and len(readers) == 1:
            rated.append((gone, number, pack))
    for gone, _, pack in sorted(rated):
        again = sum(file.size for file in pack.files if file.digest in taken)
        if gone + again <= spare:
            spare -= gone + again
            kept.append(pack)
            taken.update(file.digest for file in pack.files)
    return kept


def _packs(files: Iterable[ObjectRef], limits: CutLimits) -> list[Files]:
    made: list[Files] = []
    held: list[ObjectRef] = []
    small = Cutter(limits.least >> 3, limits.target >> 3, limits.most >> 3)
    large = Cutter(limits.least, limits.target, limits.most)
    before = 0
    cutter = small
    for file in files:
        if cutter is small and before >= limits.first and not held:
            cutter = large
        if cutter.begins(file.size) and held:
            made.append(tuple(held))
            held = []
        held.append(file)
        before += file.size
        if cutter.ends(file.size, file.digest):
            made.append(tuple(held))
            held = []
    return [*made, tuple(held)] if held else made
