"""The order in which the waiting objects of several images are prefetched."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.prefetch.fair_order import FairOrder

SIZES = st.lists(st.integers(1, 100), max_size=30)


@given(st.lists(SIZES, min_size=2, max_size=5))
def test_groups_that_wait_get_equal_bytes_and_keep_their_order(groups: list[list[int]]) -> None:
    order: FairOrder[tuple[int, int]] = FairOrder()
    for group, sizes in enumerate(groups):
        for number, size in enumerate(sizes):
            order.enter(group, (group, number), size)
    had = [0] * len(groups)
    left = [len(sizes) for sizes in groups]
    taken: list[list[int]] = [[] for _ in groups]
    while len(order):
        following = order.next()
        group, number = order.take()
        assert following == ((group, number), groups[group][number])
        waiting = [one for one in range(len(groups)) if left[one]]
        assert had[group] == min(had[one] for one in waiting)
        had[group] += groups[group][number]
        left[group] -= 1
        taken[group].append(number)
    assert taken == [list(range(len(sizes))) for sizes in groups]
    assert order.next() is None


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_group_that_comes_later_has_no_claim_on_the_past(before: int, size: int) -> None:
    order: FairOrder[tuple[str, int]] = FairOrder()
    for number in range(before + 20):
        order.enter("old", ("old", number), size)
    for _ in range(before):
        order.take()
    for number in range(20):
        order.enter("new", ("new", number), size)
    groups = [order.take()[0] for _ in range(20)]
    assert abs(groups.count("new") - 10) <= 1
