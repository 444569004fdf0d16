"""The table of the processor time of mounts."""

from benchmarks.mount.report import Result, Sample, Side, document
from tests.benchmarks.test_startup_report import FACTS


def side(revision: str, *seconds: float, warm: bool = True) -> Side:
    return Side(revision, warm, [Sample(each, 2 * each) for each in seconds])


def rows(*sides: Side) -> list[str]:
    text = document(Result("mount", "python -m benchmarks.mount", FACTS, list(sides)))
    return [line for line in text.splitlines() if line.startswith(("| warm", "| empty"))]


def test_a_ratio_is_the_median_of_pairs_and_not_that_of_medians() -> None:
    found = rows(side("ours", 0.1, 0.2, 0.3), side("theirs", 0.5, 0.4, 0.4))
    assert found[0] == "| warm | ours | 3 | 200 | 400 | 1 | 1 |"
    assert found[1].startswith("| warm | theirs | 3 | 400 | 800 | 0.500 (0.200 to 0.750) |")


def test_mounts_are_compared_with_mounts_of_the_same_kind() -> None:
    found = rows(
        side("ours", 0.1), side("theirs", 0.4), side("ours", 0.3, warm=False), side("theirs", 0.4, warm=False)
    )
    assert [row.split(" | ")[5].split()[0] for row in found] == ["1", "0.250", "1", "0.750"]
