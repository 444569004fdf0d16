"""A process keeps disk space for new values: spare files (files of evicted values, to be written over) and
bytes promised to values. Together they never exceed the space that it holds."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs_cache.files.journal import SPARES
from lazyfs_cache.policy.allowance import SpaceAllowance
from lazyfs_cache.process.arrivals import Arrivals, Arrived

SIZES = st.integers(1, 16)


@given(st.lists(SIZES, max_size=len(SPARES)), st.integers(0, 100), st.lists(SIZES, max_size=40))
def test_files_and_promises_fit_into_what_is_held(files: list[int], more: int, amounts: list[int]) -> None:
    allowance = SpaceAllowance(SPARES)
    slots = {allowance.slots.take(): occupied for occupied in files}
    allowance.add_spares([(occupied, slot) for slot, occupied in slots.items() if slot is not None])
    allowance.put_in(more)
    held = sum(files) + more
    promised = 0
    for amount in amounts:
        drawn = allowance.draw(amount)
        if drawn is None:
            assert promised + amount > held
            continue
        promised += amount
        for slot in drawn.gone:
            del slots[slot]
        if drawn.over is not None:
            assert slots.pop(drawn.over) <= amount, "a file on a smaller promise"
        assert sum(slots.values()) + promised <= held


def test_a_large_value_writes_over_nothing() -> None:
    """A large value reuses no spare file. The spare files are deleted all the same, because their space was
    promised to the value."""
    allowance = SpaceAllowance(SPARES)
    slot = allowance.slots.take()
    assert slot is not None
    allowance.add_spares([(10, slot)])
    drawn = allowance.draw(10, write_over=False)
    assert drawn is not None
    assert (drawn.over, drawn.gone) == (None, [slot])


def test_spare_files_that_are_to_go_are_held_until_they_are_gone() -> None:
    allowance = SpaceAllowance(SPARES)
    slot = allowance.slots.take()
    assert slot is not None
    allowance.add_spares([(10, slot)])
    slots, amount = allowance.take_spares()
    assert (slots, amount) == ([slot], 10)
    assert allowance.draw(1) is None
    allowance.give_back(amount)
    assert allowance.draw(10) is not None


def test_what_an_index_that_is_gone_held_comes_to_nothing() -> None:
    allowance, arrivals = SpaceAllowance(SPARES), Arrivals()
    allowance.put_in(100)
    drawn = allowance.draw(40)
    assert drawn is not None
    assert allowance.end() == []
    assert arrivals.end() == []
    allowance.put_in(60)
    allowance.give_back(40)
    assert allowance.draw(1) is None
    assert not arrivals.add(Arrived(0, b"key", 1, 40, 40))
    assert not arrivals.waiting
