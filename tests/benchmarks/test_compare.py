from typing import Any

import pytest

from benchmarks.compare import counts, worse
from benchmarks.startup.plan import COLD, PROFILED, WARM_PROXY

RESULT: Any = {
    "benchmark": "startup",
    "facts": {"cores": 2},
    "cases": [
        {
            "line": {"rtt_ms": 50, "mbit": 100},
            "side": "lazyfs cold",
            "starts": [{"requests": 10, "seconds": 1.5}, {"requests": 30, "seconds": 1.0}, {"requests": 12}],
        },
        {"line": {"rtt_ms": 0, "mbit": 100}, "side": "lazyfs cold", "starts": [{"requests": 7}]},
    ],
    "totals": {"upcalls": 5, "ratio_of_requests": 0.5},
}


def test_samples_become_medians_under_the_names_of_their_row() -> None:
    assert counts(RESULT) == {
        "/cases[lazyfs cold, 50, 100]/starts/requests": 12,
        "/cases[lazyfs cold, 0, 100]/starts/requests": 7,
        "/totals/upcalls": 5,
    }


@pytest.mark.parametrize(("after", "told"), [(104, False), (105, False), (107, True), (50, False)])
def test_only_growth_beyond_the_tolerance_is_told(after: int, told: bool) -> None:
    lines = worse({"/requests": 100}, {"/requests": after, "/new": 1000})
    assert bool(lines) is told
    assert all("/requests: 100 -> 107 (+7.0%)" in line for line in lines)


def test_of_a_start_with_a_profile_bytes_are_compared_and_requests_are_not() -> None:
    for count, told in (("requests", 0), ("bytes_from_origin", 1)):
        place = f"/cases[analysis, {PROFILED}, 50, 100]/starts/{count}"
        assert len(worse({place: 100}, {place: 200})) == told


def test_what_a_warm_proxy_asks_for_by_the_age_of_its_metadata_is_not_compared() -> None:
    for side, told in ((WARM_PROXY, 0), (COLD, 1)):
        place = f"/cases[analysis, {side}, 50, 100]/starts/requests"
        assert len(worse({place: 1}, {place: 4})) == told


def test_times_are_no_counts() -> None:
    assert counts({"seconds": 5, "cpu_seconds": 3, "rows": [{"name": "a", "seconds": 2}]}) == {}
