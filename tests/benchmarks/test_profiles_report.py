"""The profiles benchmark's bounds are judged, and its tables show them."""

import msgspec
import pytest

from benchmarks.profiles import report
from benchmarks.profiles.report import GUESSED, INHERITED, OWN, PACKS, WARM, bounds, document
from benchmarks.profiles.result import Guessed, Inherited, Result, Row
from tests.benchmarks.test_startup_report import FACTS, start

GOOD = {PACKS: (10, 20), GUESSED: (6, 20), INHERITED: (5, 20), OWN: (4, 20), WARM: (3, 12)}
"""Side -> seconds and megabytes of its start."""


def result(**changed: tuple[float, float]) -> Result:
    """Returns a result that keeps all bounds, but for the sides `changed`, named as in `report`."""
    sides = GOOD | {getattr(report, name): figures for name, figures in changed.items()}
    rows = [Row("python", side, [start(*figures)]) for side, figures in sides.items()]
    inherited = Inherited(touched=100, changed=0.25, ahead=0.9, changed_bytes=10_000_000)
    return Result("profiles", "c", FACTS, "50 ms", [Guessed("python", 1000, 0.1)], inherited, rows)


def missed(made: Result) -> list[str]:
    return [one.said for one in bounds(made) if not one.kept]


def test_a_result_within_all_bounds_misses_none() -> None:
    assert missed(result()) == []
    assert len(bounds(result())) == 5
    assert "missed" not in document(result())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"GUESSED": (7.1, 20)}, "guessed / packs"),
        ({"INHERITED": (5.3, 20)}, "inherited / recorded"),
        ({"WARM": (3, 13.1)}, "changed bytes"),
    ],
)
def test_a_start_that_is_too_slow_or_fetches_too_much_misses_its_bound(
    changed: dict[str, tuple[float, float]], said: str
) -> None:
    (one,) = missed(result(**changed))
    assert said in one
    assert document(result(**changed)).count("| missed |") == 1


@pytest.mark.parametrize(("ahead", "wasted", "number"), [(0.79, 0.25, 1), (0.8, 0.26, 1), (0.7, 0.3, 2)])
def test_shares_are_judged_too(ahead: float, wasted: float, number: int) -> None:
    made = result()
    inherited = msgspec.structs.replace(made.inherited, ahead=ahead)
    guessed = [Guessed("python", 1000, wasted)]
    assert len(missed(msgspec.structs.replace(made, inherited=inherited, guessed=guessed))) == number
