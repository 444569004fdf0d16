"""Packs: where a layer is cut into packs, and the table by which catalogs refer to packs."""

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import FormatError
from lazyfs.core.pack import NO_PACKS, Cutter, PackTable
from lazyfs.core.params import Params

File = tuple[int, Digest]
"""(size, digest): all that a Cutter uses of a file."""


def packs_of(files: Iterable[File], least: int, target: int, most: int) -> list[list[File]]:
    """Cuts the files into packs; returns the files of each pack."""
    cutter = Cutter(least, target, most)
    packs: list[list[File]] = [[]]
    for size, digest in files:
        if cutter.begins(size):
            packs.append([])
        packs[-1].append((size, digest))
        if cutter.ends(size, digest):
            packs.append([])
    return [pack for pack in packs if pack]


def made(count: int, *, size: int = 8 << 10, salt: str = "") -> list[File]:
    """Returns files of sizes around `size`."""
    digests = [sha256(f"{salt}{number}".encode()) for number in range(count)]
    return [(1 + digest[-1] * size // 128, digest) for digest in digests]


def usual(files: Iterable[File]) -> list[list[File]]:
    """Cuts the files into packs with a new repository's default limits."""
    params = Params()
    return packs_of(files, params.pack_least, params.pack_target, params.pack_most)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.binary(min_size=32, max_size=32).map(Digest))),
    st.lists(st.integers(300, 5000), min_size=3, max_size=3).map(sorted),
)
def test_packs_hold_all_files_in_order_within_the_limits(files: list[File], limits: list[int]) -> None:
    least, target, most = limits
    packs = packs_of(files, least, target, most)
    assert [file for pack in packs for file in pack] == files
    sizes = [sum(size for size, _ in pack) for pack in packs]
    assert all(size <= most for size in sizes)
    for pack, after in pairwise(packs):
        size = sum(size for size, _ in pack)
        assert size >= least or size + after[0][0] > most


@pytest.mark.parametrize("size", [500, 8 << 10, 60 << 10])
def test_the_mean_pack_has_about_the_target_whether_files_are_small_or_large(size: int) -> None:
    files = made((200 << 20) // size, size=size)
    packs = usual(files)
    mean = sum(size for size, _ in files) / len(packs)
    assert 0.7 * Params().pack_target < mean < 1.3 * Params().pack_target


def test_an_inserted_a_removed_and_a_changed_file_touch_one_or_two_packs() -> None:
    files = made(3000)
    before = {tuple(pack) for pack in usual(files)}
    (new,) = made(1, salt="new")
    touched = [
        len({tuple(pack) for pack in usual(changed)} - before)
        for place in range(0, 3000, 60)
        for changed in (
            [*files[:place], new, *files[place:]],
            [*files[:place], *files[place + 1 :]],
            [*files[:place], new, *files[place + 1 :]],
        )
    ]
    assert sum(touched) / len(touched) <= 2
    assert max(touched) <= 5, "a cut at the largest size moves until the next chosen one"


def test_layers_that_share_packages_share_most_of_their_packs() -> None:
    """Three layers have three fifths of 60 packages each. Their distinct packs have at most 1.5 times the
    bytes of their distinct files. Packs that are cut at a size alone have 1.8 times these bytes."""
    chance = random.Random(3)
    packages = [made(chance.randint(2, 400), salt=f"package {number} ") for number in range(60)]
    files: dict[Digest, int] = {}
    packs: set[tuple[File, ...]] = set()
    for _ in range(3):
        chosen = [file for package in packages if chance.random() < 0.6 for file in package]
        packs.update(tuple(pack) for pack in usual(chosen))
        files.update((digest, size) for size, digest in chosen)
    assert sum(size for pack in packs for size, _ in pack) <= 1.5 * sum(files.values())


def test_ten_changed_files_touch_at_most_twenty_packs() -> None:
    files = made(10_000)
    before = {tuple(pack) for pack in usual(files)}
    for number, file in enumerate(made(10, salt="new")):
        files[500 + 900 * number] = file
    assert len({tuple(pack) for pack in usual(files)} - before) <= 20


def test_a_table_gives_packs_by_number() -> None:
    packs = [ObjectRef(sha256(b"a"), 1), ObjectRef(sha256(b"b"), bounds.PACK)]
    table = PackTable.of(packs)
    assert (len(table), table[0], table[1]) == (2, *packs)
    assert PackTable(table.encoded)[1] == packs[1]
    assert len(NO_PACKS) == 0


@pytest.mark.parametrize("number", [-1, 2, 1 << 31])
def test_a_number_that_is_not_in_the_table_is_refused(number: int) -> None:
    table = PackTable.of([ObjectRef(sha256(b"a"), 1), ObjectRef(sha256(b"b"), 2)])
    with pytest.raises(FormatError, match="there is no pack"):
        table[number]


@pytest.mark.parametrize(
    "encoded",
    [
        bytes(35),
        bytes(37),
        bytes(36),
        bytes(32) + (bounds.PACK + 1).to_bytes(4, "little"),
        bytes(32) + b"\xff" * 4,
    ],
)
def test_a_table_that_is_cut_off_or_names_an_impossible_pack_is_refused(encoded: bytes) -> None:
    with pytest.raises(FormatError):
        PackTable(encoded)


def test_a_table_of_too_many_packs_is_refused_on_both_sides() -> None:
    refs = [ObjectRef(sha256(number.to_bytes(4)), 1) for number in range(bounds.PACKS + 1)]
    assert len(PackTable.of(refs[:-1])) == bounds.PACKS
    with pytest.raises(FormatError, match="65537 packs"):
        PackTable.of(refs)
    with pytest.raises(FormatError, match="bytes"):
        PackTable(PackTable.of(refs[:-1]).encoded + bytes(32) + b"\1\0\0\0")
