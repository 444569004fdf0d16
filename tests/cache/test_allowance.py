"""What a process holds: files in the pool and promises together never exceed it."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs_cache.files.journal import POOL
from lazyfs_cache.policy.allowance import Arrived, Purse

SIZES = st.integers(1, 16)


@given(st.lists(SIZES, max_size=POOL), st.integers(0, 100), st.lists(SIZES, max_size=40))
def test_files_and_promises_fit_into_what_is_held(files: list[int], more: int, amounts: list[int]) -> None:
    purse = Purse()
    slots = {purse.pool_slot(): occupied for occupied in files}
    purse.pool([(occupied, slot) for slot, occupied in slots.items() if slot is not None])
    purse.put_in(more, purse.generation)
    held = sum(files) + more
    promised = 0
    for amount in amounts:
        drawn = purse.draw(amount)
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
    """Its files go all the same: their space was promised."""
    purse = Purse()
    slot = purse.pool_slot()
    assert slot is not None
    purse.pool([(10, slot)])
    drawn = purse.draw(10, write_over=False)
    assert drawn is not None
    assert (drawn.over, drawn.gone) == (None, [slot])


def test_a_drained_pool_is_held_until_its_files_are_gone() -> None:
    purse = Purse()
    slot = purse.pool_slot()
    assert slot is not None
    purse.pool([(10, slot)])
    slots, amount = purse.drain()
    assert (slots, amount) == ([slot], 10)
    assert purse.draw(1) is None
    purse.give_back(amount, purse.generation)
    assert purse.draw(10) is not None


def test_what_an_index_that_is_gone_held_comes_to_nothing() -> None:
    purse = Purse()
    purse.begin(1)
    purse.put_in(100, 1)
    drawn = purse.draw(40)
    assert drawn is not None
    purse.begin(2)
    purse.put_in(60, 1)
    purse.give_back(40, drawn.generation)
    assert purse.draw(1) is None
    assert purse.arrive(Arrived(0, b"key", 1, 40, 40), drawn.generation) is None
    assert not purse.waiting
