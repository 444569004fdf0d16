"""Hot packs are cut from the files that programs read. Every file is in a pack, and few files are in two.
Large groups of files that different programs read are apart. Packs of the earlier profile are kept if they
are still wanted."""

import random

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.hot_packs import LIMITS, SPARE, CutLimits, Files, cut
from lazyfs.core.profile import HotPack, total

SMALL = CutLimits(least=200, target=600, most=1000, first=500, apart=100)


def digest(number: int) -> Digest:
    return sha256(b"%d" % number)


def packed(files: Files) -> HotPack:
    return HotPack(ObjectRef(sha256(b"".join(file.digest for file in files)), total(files)), files)


SIZES = st.dictionaries(st.integers(0, 60).map(digest), st.integers(1, 900), min_size=1, max_size=60)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, list[Digest]], dict[Digest, int], list[HotPack]]:
    """Draws (program -> the files that it reads, file -> size, the hot packs of an earlier profile)."""
    sizes = draw(SIZES)
    reads = st.lists(st.sampled_from(sorted(sizes)), unique=True)
    programs = draw(st.dictionaries(st.sampled_from("abcd"), reads, min_size=1))
    wanted = {one: sizes[one] for digests in programs.values() for one in digests}
    before = draw(st.lists(st.lists(st.sampled_from(sorted(sizes)), min_size=1, unique=True), max_size=5))
    earlier = [packed(tuple(ObjectRef(one, sizes[one]) for one in files)) for files in before]
    return programs, wanted, [one for one in earlier if one.ref.size <= bounds.PACK]


@given(worlds())
def test_every_file_lies_in_a_pack_and_little_lies_there_twice(
    world: tuple[dict[str, list[Digest]], dict[Digest, int], list[HotPack]],
) -> None:
    programs, sizes, earlier = world
    kept, made = cut(programs, sizes, earlier=earlier, limits=SMALL)
    assert all(pack in earlier for pack in kept)
    held = [file for files in [*(pack.files for pack in kept), *made] for file in files]
    assert {file.digest for file in held} >= set(sizes)
    assert total(held) <= sum(sizes.values()) * (1 + SPARE)
    new = [file for files in made for file in files]
    assert len(set(new)) == len(new)
    assert all(total(files) <= SMALL.most for files in made)
    assert cut(programs, sizes, earlier=earlier, limits=SMALL) == (kept, made)


def test_what_each_program_alone_reads_and_what_both_do_lie_apart() -> None:
    sizes = {digest(number): 20_000 for number in range(60)}
    names = list(sizes)
    kept, made = cut({"a": names[:40], "b": names[20:]}, sizes)
    assert kept == []
    for files in made:
        numbers = {names.index(file.digest) // 20 for file in files}
        assert len(numbers) == 1


def test_small_groups_are_joined() -> None:
    sizes = {digest(number): 1000 for number in range(100)}
    names = list(sizes)
    programs = {f"p{at}": [*names[:50], names[50 + at]] for at in range(50)}
    _, made = cut(programs, sizes, limits=LIMITS._replace(apart=20_000))
    assert len(made) <= 3


def test_an_inserted_file_changes_few_packs() -> None:
    random_ = random.Random(1)
    sizes = {digest(number): random_.randrange(100, 60_000) for number in range(1000)}
    names = list(sizes)
    _, before = cut({"": names}, sizes)
    names.insert(300, digest(5000))
    _, after = cut({"": names}, sizes | {digest(5000): 5000})
    assert len(before) >= 20
    assert len(set(after) - set(before)) <= 3


def test_the_first_packs_are_small_and_the_others_near_their_target() -> None:
    random_ = random.Random(2)
    sizes = {digest(number): random_.randrange(100, 60_000) for number in range(1000)}
    _, made = cut({"": list(sizes)}, sizes)
    assert total(made[0]) <= LIMITS.most >> 3
    late = [total(files) for files in made[len(made) // 2 : -1]]
    assert LIMITS.least <= sum(late) / len(late) <= LIMITS.most


def test_a_pack_of_which_nearly_all_is_wanted_is_listed_again() -> None:
    sizes = {digest(number): 1000 for number in range(3000)}
    names = list(sizes)
    _, before = cut({"": names}, sizes)
    packs = [packed(files) for files in before]
    gone = packs[len(packs) // 2].files[0].digest
    kept, made = cut({"": [one for one in names if one != gone]}, sizes, earlier=packs)
    assert (kept and set(kept), made) == (set(packs), [])
    half = {file.digest for file in packs[-1].files[::2]}
    kept, made = cut({"": [one for one in names if one not in half]}, sizes, earlier=packs)
    assert packs[-1] not in kept
    assert {file.digest for files in made for file in files} == {
        file.digest for file in packs[-1].files if file.digest not in half
    }
