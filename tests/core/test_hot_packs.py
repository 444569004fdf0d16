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
from lazyfs.prefetch.profile_schedule import HERE

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
    known = {file.digest for pack in earlier for file in pack.files}
    for files in made:
        assert len({file.digest in known for file in files}) == 1, "new files are apart from known ones"
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
    assert max(map(total, made[:4])) <= LIMITS.most // 32
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


def test_a_worker_with_the_earlier_packs_fetches_what_has_changed() -> None:
    """A fifth of the files are changed, in a few directories, which a start reads one after the other."""
    random_ = random.Random(3)
    sizes = {digest(number): random_.randrange(100, 60_000) for number in range(2500)}
    names = list(sizes)
    packs = [packed(files) for files in cut({"": names}, sizes)[1]]
    changed = {
        digest(10_000 + at): sizes[names[at]] for at in range(2000) if at // 50 in (1, 5, 9, 20, 21, 30, 39)
    }
    names = [digest(10_000 + at) if digest(10_000 + at) in changed else name for at, name in enumerate(names)]
    kept, made = cut({"": names}, sizes | changed, earlier=packs)
    here = {file.digest for pack in packs for file in pack.files}
    fetched = [
        files for files in made if total(one for one in files if one.digest in here) < HERE * total(files)
    ]
    assert {pack.ref for pack in kept} <= {pack.ref for pack in packs}
    assert sum(map(total, fetched)) == sum(changed.values())


def test_nights_that_change_a_few_files_do_not_add_packs_for_ever() -> None:
    random_ = random.Random(4)
    sizes = {digest(number): random_.randrange(100, 60_000) for number in range(1000)}
    names = list(sizes)
    packs = [packed(files) for files in cut({"": names}, sizes)[1]]
    first = len(packs)
    for night in range(60):
        for at in random_.sample(range(1000), 3):
            names[at] = digest(10_000 + 100 * night + at)
            sizes[names[at]] = random_.randrange(100, 60_000)
        kept, made = cut({"": names}, sizes, earlier=packs)
        packs = [*kept, *map(packed, made)]
    assert {file.digest for pack in packs for file in pack.files} >= set(names)
    assert len(packs) <= 3 * first
