"""The repositories of one mount share a bound on the bytes being downloaded: it is never exceeded, and no
download waits for ever."""

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.client.allowance import Allowance
from lazyfs.client.under_way import UnderWay

MOST = 100


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_all_items_begin_and_the_bound_holds_but_for_one_of_each(
    asked: list[tuple[int, int]], draw: object
) -> None:
    allowance = Allowance(MOST)
    begun: list[tuple[int, int, int]] = []
    order: list[int] = []

    def begin(repository: int) -> UnderWay[int]:
        def start(item: int, size: int) -> None:
            begun.append((repository, item, size))
            order.append(item)

        return UnderWay(8, MOST, start, allowance)

    bounds = [begin(repository) for repository in range(4)]
    for item, (repository, size) in enumerate(asked):
        bounds[repository].enter(item, size)
    while begun:
        held = sum(size for _, _, size in begun)
        lone = sum(size for repository, _, size in begun if [one[0] for one in begun].count(repository) == 1)
        assert held == allowance.taken
        assert held <= MOST + lone
        repository, _, size = begun.pop(draw.randrange(len(begun)))  # type: ignore[attr-defined]
        bounds[repository].ended(size)
    assert sorted(order) == list(range(len(asked)))
    assert allowance.taken == 0
    for repository in range(4):
        mine = [item for item in order if asked[item][0] == repository]
        assert mine == sorted(mine)


def test_a_repository_whose_server_is_silent_stops_no_other() -> None:
    allowance = Allowance(MOST)
    begun: list[str] = []
    sick = UnderWay[str](8, MOST, lambda item, _: begun.append(item), allowance)
    well = UnderWay[str](8, MOST, lambda item, _: begun.append(item), allowance)
    for item in ("s1", "s2", "s3"):
        sick.enter(item, 50)
    assert begun == ["s1", "s2"]
    for item in ("w1", "w2"):
        well.enter(item, 50)
    assert begun == ["s1", "s2", "w1"]
    well.ended(50)
    assert begun == ["s1", "s2", "w1", "w2"]
    sick.ended(50)
    sick.ended(50)
    assert begun == ["s1", "s2", "w1", "w2", "s3"]
