from pathlib import Path

import msgspec
import pytest

from benchmarks.facts import Facts
from benchmarks.front import RESULTS
from benchmarks.startup.bench import start_in_turn
from benchmarks.startup.images import BenchmarkImage
from benchmarks.startup.plan import (
    COLD,
    LOCAL,
    PODMAN,
    PROFILED,
    WARM_NODE,
    WARM_PROXY,
    Case,
    full,
    quick,
    with_revision,
    with_sides,
)
from benchmarks.startup.report import document, limit, plot
from benchmarks.startup.result import CaseResult, Result
from benchmarks.startup.services import Line
from benchmarks.startup.start import Start
from benchmarks.startup.workloads import WORKLOADS

LINE = Line(50, 100)
FACTS = Facts("some CPU", 2, 8 << 30, "6.1", "Debian", "3.11", "abc1234")
IMAGE = BenchmarkImage(
    "analysis", "layout", entries=1000, unpacked_bytes=1_000_000_000, compressed_bytes=4, layers=3
)


def start(seconds: float, megabytes: float = 25) -> Start:
    return Start(1, 2, seconds, 1, 100, int(megabytes * 1e6), 100_000_000, 50_000_000, 3, waits=40)


def result(*rows: tuple[str, list[Start]]) -> Result:
    cases = [CaseResult(LINE, "analysis", side, starts) for side, starts in rows]
    return Result("startup", "python -m benchmarks.startup", FACTS, [IMAGE], cases)


def test_rows_are_medians_and_verdicts_say_who_wins() -> None:
    made = result(
        (COLD, [start(10), start(20), start(90)]),
        ("podman pull", [start(5)]),
        ("apptainer build", [start(20.9)]),
        ("skopeo, umoci", [start(80)]),
        (LOCAL, [start(2)]),
    )
    text = document(made)
    assert (
        "| lazyfs cold | 1.00 | 2.00 | 20.00 | 10.00 to 90.00 | 1.00 | 100 | 40 | 25.00 | 100.0 | 10% |"
        in text
    )
    assert "lazyfs cold (20.00 s) loses to podman pull (5.00 s, 4.00 times)." in text
    assert "lazyfs cold (20.00 s) is level with apptainer build (20.90 s, 1.04 times)." in text
    assert "lazyfs cold (20.00 s) is ahead of skopeo, umoci (80.00 s, 4.00 times)." in text
    assert "2.20 s, and the program alone takes 2.00 s." in text
    assert "python -m benchmarks.startup" in text
    assert "abc1234" in text


def test_the_limit_is_bytes_at_line_rate_and_four_round_trips() -> None:
    assert limit(LINE, 12_500_000) == pytest.approx(1.0 + 0.2)


def test_the_limit_takes_the_fewest_bytes_that_were_enough() -> None:
    text = document(result((COLD, [start(10, megabytes=25)]), (PROFILED, [start(5, megabytes=12.5)])))
    assert "12.50 MB that it was seen to do with at line rate, and 4 round trips, 1.20 s." in text


def test_rows_without_starts_are_left_out() -> None:
    assert WARM_NODE not in document(result((COLD, [start(1)]), (WARM_NODE, [])))


def test_a_plot_is_drawn_in_both_formats(tmp_path: Path) -> None:
    plot(result((COLD, [start(10)]), ("podman pull", [start(5)])), tmp_path / "startup")
    assert (tmp_path / "startup.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "startup.svg").read_bytes()


def test_rows_that_were_not_measured_again_are_kept_with_their_run() -> None:
    first = result((COLD, [start(10)]), (LOCAL, [start(1)]))
    second = Result("startup", "second", msgspec.structs.replace(FACTS, commit="222"), [], [])
    second.cases = [CaseResult(LINE, "analysis", COLD, [start(20)])]
    second.keep(first)
    third = Result("startup", "third", msgspec.structs.replace(FACTS, commit="333"), [], [])
    third.cases = [CaseResult(LINE, "shell", COLD)]
    third.keep(second)
    rows = {(row.workload, row.side): row for row in third.cases if row.starts}
    assert [run.command for run in third.earlier] == ["second", "python -m benchmarks.startup"]
    assert rows["analysis", COLD].starts == [start(20)]
    assert third.earlier[rows["analysis", COLD].run or 0].facts.commit == "222"
    assert rows["analysis", LOCAL].run == 1
    assert third.images == [IMAGE]
    text = document(third)
    assert "From an earlier run, `second` at commit 222: analysis, 50 ms, 100 Mbit/s." in text


def test_a_row_that_is_still_to_be_measured_keeps_its_earlier_starts() -> None:
    first = result((COLD, [start(10)]), (LOCAL, [start(1)]))
    second = Result("startup", "second", FACTS, [], [])
    second.cases = [CaseResult(LINE, "analysis", COLD), CaseResult(LINE, "analysis", LOCAL, [start(2)])]
    second.keep(first)
    assert [(row.side, row.run, row.starts) for row in second.cases] == [
        (LOCAL, None, [start(2)]),
        (COLD, 0, [start(10)]),
    ]


def test_a_side_that_fails_is_named_and_loses_its_own_start_only() -> None:
    def once(side: str) -> Start:
        if side == PODMAN:
            raise RuntimeError("podman pull exited 125: no space left")
        return start(3)

    made = result((COLD, []), (PODMAN, []), (LOCAL, []))
    case = Case(LINE, "analysis", (COLD, PODMAN, LOCAL), 2)
    failed = [line for repeat in range(2) for line in start_in_turn(case, repeat, made, once)]
    assert [len(row.starts) for row in made.cases] == [2, 0, 2]
    named = f"50 ms, 100 Mbit/s  analysis  {PODMAN}: podman pull exited 125: no space left"
    assert failed == [f"1/2  {named}", f"2/2  {named}"]


def test_each_repeat_begins_with_another_side() -> None:
    turns: list[str] = []

    def once(side: str) -> Start:
        turns.append(side)
        return start(1)

    made, case = (
        result((COLD, []), (PODMAN, []), (LOCAL, [])),
        Case(LINE, "analysis", (COLD, PODMAN, LOCAL), 2),
    )
    for repeat in range(2):
        assert start_in_turn(case, repeat, made, once) == []
    assert turns == [COLD, PODMAN, LOCAL, PODMAN, LOCAL, COLD]


def test_waits_that_were_not_counted_are_not_shown_as_none_at_all() -> None:
    old = msgspec.structs.replace(start(10), waits=None)
    assert "| 100 | - | 25.00 |" in document(result((COLD, [old])))


def test_a_part_of_the_plan_can_keep_the_committed_rows() -> None:
    committed = msgspec.json.decode((RESULTS / "startup.json").read_bytes(), type=Result)
    part = Result("startup", "part", FACTS, [], [CaseResult(LINE, "not started yet", COLD)])
    part.keep(committed)
    assert len(part.cases) == 1 + sum(bool(case.starts) for case in committed.cases)


def test_a_result_survives_its_file() -> None:
    made = result((COLD, [start(10)]))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Result) == made


@pytest.mark.parametrize("plan", [quick(), full()], ids=["quick", "full"])
def test_a_plan_names_programs_and_each_row_once(plan: list[Case]) -> None:
    rows = [(case.line, case.workload, side) for case in plan for side in case.sides]
    assert len(rows) == len(set(rows))
    assert {case.workload for case in plan} <= set(WORKLOADS)


def test_a_run_can_be_of_some_sides() -> None:
    cases = [Case(LINE, "cuda", (COLD, LOCAL), 3), Case(LINE, "cuda", (PODMAN,), 1)]
    assert with_sides(cases, [COLD, PODMAN]) == [Case(LINE, "cuda", (COLD,), 3), cases[1]]
    assert with_sides(cases, [COLD]) == [Case(LINE, "cuda", (COLD,), 3)]
    assert with_sides(cases, ["squid"]) == []


def test_another_revision_has_a_row_for_each_way_that_a_worker_starts() -> None:
    cases = with_revision(
        [Case(LINE, "analysis", (COLD, PROFILED, WARM_PROXY, WARM_NODE, LOCAL), 2)], "abc1234"
    )
    added = ("lazyfs cold, at abc1234", f"{PROFILED}, at abc1234", f"{WARM_NODE}, at abc1234")
    assert cases[0].sides == (COLD, PROFILED, WARM_PROXY, WARM_NODE, LOCAL, *added)
    text = document(result((COLD, [start(10)]), (added[0], [start(20)]), ("podman pull", [start(30)])))
    assert "| lazyfs cold, at abc1234 | 1.00 | 2.00 | 20.00 |" in text
    assert "is ahead of podman pull (30.00 s, 3.00 times)." in text
