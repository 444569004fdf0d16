"""Short inode numbers for --inode32: each is below 2**32, belongs to one file, and is kept until the slot of
the file's catalog is freed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.vfs.inode_numbers import ROOT, SPREAD, pack
from lazyfs.vfs.shown_numbers import ShortNumbers

slots = st.integers(1, (1 << 32) - 1)
indices = st.one_of(st.integers(0, 1000), st.integers(0, (1 << 31) - 1).map(lambda index: SPREAD | index))


@given(st.lists(st.builds(pack, slots, indices), unique=True))
def test_each_file_has_its_own_and_keeps_it(numbers: list[int]) -> None:
    short = ShortNumbers()
    found = [short.shown(number) for number in numbers]
    assert len(set(found)) == len(found)
    assert all(ROOT < shown < 1 << 32 for shown in found)
    assert [short.shown(number) for number in numbers] == found
    assert short.shown(ROOT) == ROOT


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 600)), max_size=200))
def test_what_is_freed_is_used_again_and_nothing_else(steps: list[tuple[bool, int, int]]) -> None:
    """There are so few blocks of numbers that freed ones must be reused."""
    short = ShortNumbers(blocks=30)
    held: dict[int, int] = {}
    for free, slot, index in steps:
        if free:
            short.forget_slot(slot)
            held = {number: shown for number, shown in held.items() if number >> 32 != slot}
        else:
            held[pack(slot, index)] = short.shown(pack(slot, index))
        assert len(set(held.values())) == len(held)
        assert {number: short.shown(number) for number in held} == held
    for slot in range(1, 10):
        short.forget_slot(slot)
    assert len(short) == 0


def test_none_is_given_twice_when_all_are_in_use() -> None:
    short = ShortNumbers(blocks=4)
    for slot in (1, 2, 3):
        short.shown(pack(slot, 0))
    with pytest.raises(OverflowError, match="mount without --inode32"):
        short.shown(pack(4, 0))
    short.forget_slot(2)
    assert short.shown(pack(4, 7)) == 2 << 8 | 7
