"""Traces of many starts become one trace of the objects that at least a third of the starts touch, in the
order of first use."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.trace_merge import SHARE, merged

TRACES = st.lists(st.lists(st.integers(0, 20)), max_size=12)


def test_what_a_third_touches_is_kept_in_the_order_of_first_use() -> None:
    traces = ["abxc", "abc", "bayc", "abczz"]
    assert "".join(merged(traces)) == "abc"
    assert "".join(merged(traces, Fraction(1, 4))) == "abxyc" + "z"
    assert "".join(merged(["ab", "cd", "ef"])) == "acebdf"
    assert merged([]) == []


def test_a_trace_that_repeats_itself_counts_once() -> None:
    assert merged([["a"] * 100, ["b"], ["b"], ["b"]]) == ["b"]


@given(TRACES)
def test_each_thing_comes_once_if_enough_traces_have_it(traces: list[list[int]]) -> None:
    found = merged(traces)
    assert len(set(found)) == len(found)
    for one in range(21):
        assert (one in found) == (0 < sum(one in trace for trace in traces) >= SHARE * len(traces))


@given(st.lists(st.integers(0, 20), unique=True), st.integers(1, 5))
def test_the_same_trace_many_times_is_itself(trace: list[int], times: int) -> None:
    assert merged([trace] * times) == trace


@given(TRACES)
def test_the_order_of_the_traces_changes_no_member(traces: list[list[int]]) -> None:
    assert set(merged(traces)) == set(merged(traces[::-1]))
