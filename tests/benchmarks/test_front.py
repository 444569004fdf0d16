"""The front page's table, picture and list of losses show the starts in the committed results."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.front import RESULTS, files, write
from benchmarks.startup.plan import COLD, LOCAL, PODMAN, PROFILED, SIF

LONG, SHORT = (50, 100), (0, 1000)


def result(*rows: tuple[str, tuple[int, int], str, list[float]]) -> dict[str, Any]:
    """Returns a startup result with the seconds of each (program, line, side)."""
    cases = [
        {
            "workload": workload,
            "line": {"rtt_ms": line[0], "mbit": line[1]},
            "side": side,
            "starts": [{"seconds": each, "requests": 7, "bytes_from_origin": 2_000_000} for each in seconds],
        }
        for workload, line, side, seconds in rows
    ]
    return {"command": "python -m benchmarks.startup", "facts": {"commit": "abc1234"}, "cases": cases}


def test_the_committed_files_are_made_from_the_committed_starts() -> None:
    made = files(json.loads((RESULTS / "startup.json").read_text()))
    for name, text in made.items():
        assert (RESULTS / name).read_text() == text, f"{name}: run python -m benchmarks.front"


def test_a_row_has_the_medians_of_both_lines() -> None:
    made = files(result(("analysis", SHORT, COLD, [1, 2, 9]), ("analysis", LONG, COLD, [3, 4, 5])))
    assert f"| {COLD} | 2.0 | 4.0 | 7 | 2 |" in made["front.md"].splitlines()
    assert "abc1234" in made["front.md"]


def test_every_loss_is_listed_and_nothing_else() -> None:
    lost = files(
        result(
            ("analysis", LONG, COLD, [10]),
            ("analysis", LONG, PROFILED, [5]),
            ("analysis", LONG, PODMAN, [9]),
            ("analysis", LONG, SIF, [6]),
            ("analysis", LONG, LOCAL, [1]),  # what no way of fetching can beat is no rival
            ("shell", LONG, COLD, [1]),
            ("shell", LONG, SIF, [2]),
            ("hello", LONG, COLD, [1]),
        )
    )["losses.md"]
    rows = [line for line in lost.splitlines() if line.startswith("|")][2:]
    assert rows == [f"| analysis | 50 ms, 100 Mbit/s | {SIF}: 6.0 | **10.0** | 5.0 |"]


def test_each_program_that_was_also_pulled_has_a_row_beside_its_fastest_pull() -> None:
    rows = image_rows(
        ("java", LONG, COLD, [6.5]),
        ("java", LONG, PROFILED, [5]),
        ("java", LONG, PODMAN, [9]),
        ("java", LONG, SIF, [6]),
        ("java", SHORT, PODMAN, [1]),
        ("hello", LONG, COLD, [1]),
    )
    cells = [f"{seconds:.1f} s, 7, 2.0 MB" for seconds in (6.5, 5, 6)]
    assert rows == [f"| java | {' | '.join(cells)} | {SIF} |"]


def test_starts_that_are_slower_than_they_should_be_are_bold() -> None:
    rows = image_rows(("tex", LONG, COLD, [6.7]), ("tex", LONG, PROFILED, [6.1]), ("tex", LONG, SIF, [6]))
    cells = [f"{seconds}, 7, 2.0 MB" for seconds in ("**6.7 s**", "**6.1 s**", "6.0 s")]
    assert rows == [f"| tex | {' | '.join(cells)} | {SIF} |"]


def image_rows(*rows: tuple[str, tuple[int, int], str, list[float]]) -> list[str]:
    return [line for line in files(result(*rows))["images.md"].splitlines() if line.startswith("|")][2:]


def test_rows_of_an_earlier_run_are_told_with_its_command_and_commit() -> None:
    made = result(("java", LONG, PODMAN, [9]), ("shell", LONG, PODMAN, [2]))
    made["cases"][1]["run"] = 0
    made["earlier"] = [{"command": "python -m before '--only=a b' --x", "facts": {"commit": "def5678"}}]
    text = files(made)["images.md"]
    assert (
        "Command: `python -m benchmarks.startup`, at commit abc1234; `python -m before`, at commit def5678;"
        in text
    )


def test_the_bars_of_the_picture_are_as_long_as_the_starts() -> None:
    drawn = files(result(("analysis", LONG, COLD, [10]), ("analysis", LONG, SIF, [5])))["front.svg"]
    root = ElementTree.fromstring(drawn)
    bars = [float(bar.attrib["width"]) for bar in root if bar.tag.endswith("rect")][1:]
    texts = [text.text for text in root if text.tag.endswith("text")]
    assert bars == [190.0, 380.0]
    assert texts[1:] == [SIF, "5.0 s, 2 MB", COLD, "10.0 s, 2 MB"]


def test_a_machine_without_results_has_nothing_to_write(tmp_path: Path) -> None:
    write(tmp_path)
    assert list(tmp_path.iterdir()) == []
