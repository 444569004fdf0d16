"""The figures and the picture of the front page (README.md), taken from results that other benchmarks wrote.

    python -m benchmarks.front

writes front.svg, front.md, images.md and losses.md beside startup.json; `tools/bench` does so by itself.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.startup.plan import COLD, LOCAL, PROFILED, PULLS

RESULTS: Final = Path(__file__).parent / "results"
SHOWN: Final = "analysis"
"""The program whose starts are shown."""
EVERYTHING: Final = "read everything"
"""The program that reads the whole image `analysis`."""
Line = tuple[float, float]
"""Round trip in ms, Mbit/s."""
BEHIND: Final = 1.1
"""How many times as long as after the fastest pull a start without a profile may take."""
LINES: Final[tuple[Line, ...]] = ((0, 1000), (50, 100))
"""The lines on which all sides were measured."""
Cell = tuple[float, float, float]
"""Medians of one side on one line: seconds to the result, requests, MB from the origin."""


class Starts:
    """The medians of a startup result."""

    def __init__(self, result: dict[str, Any]) -> None:
        self._sources: dict[str, dict[str, None]] = {}
        """For each command, without its options, the commits at which it was run."""
        self.cells: dict[tuple[str, Line], dict[str, Cell]] = {}
        """(Program, line) -> side -> cell."""
        for case in result["cases"]:
            if case["starts"]:
                run = case.get("run")
                made = result if run is None else result["earlier"][run]
                command = re.split(r" '?--", made["command"])[0]
                self._sources.setdefault(command, {})[made["facts"]["commit"]] = None
                line = (case["line"]["rtt_ms"], case["line"]["mbit"])
                self.cells.setdefault((case["workload"], line), {})[case["side"]] = (
                    median(start["seconds"] for start in case["starts"]),
                    median(start["requests"] for start in case["starts"]),
                    median(start["bytes_from_origin"] for start in case["starts"]) / 1e6,
                )

    def source(self) -> str:
        """Returns a sentence with the commands of the benchmark, without options, and the commits."""
        shown = (f"`{command}`, at commit {', '.join(at)}" for command, at in self._sources.items())
        return f"Command: {'; '.join(shown)}; medians."


def line_name(line: Line) -> str:
    """Returns a line in words: `50 ms, 100 Mbit/s`."""
    return f"{line[0]:g} ms, {line[1]:g} Mbit/s"


def table(starts: Starts) -> str:
    """Returns the starts of SHOWN, a row for each side that was measured on all LINES, as Markdown."""
    columns = [starts.cells.get((SHOWN, line), {}) for line in LINES]
    sides = [side for side in columns[0] if all(side in column for column in columns)]
    heads = [f"{line_name(line)}: seconds" for line in LINES]
    lines = [f"| | {' | '.join(heads)} | requests | MB |", "|---|" + "---:|" * (len(LINES) + 2)]
    for side in sides:
        seconds = [f"{column[side][0]:.1f}" for column in columns]
        _, requests, megabytes = columns[-1][side]
        lines.append(f"| {side} | {' | '.join(seconds)} | {requests:,.0f} | {megabytes:.0f} |")
    return "\n".join([*lines, "", starts.source(), ""])


def images(starts: Starts) -> str:
    """Returns the starts of every image's own program that was also started after a pull, on the last of
    LINES, as Markdown: lazyfs beside the fastest pull."""
    lines = [
        f"| {line_name(LINES[-1])} | lazyfs cold | with profile | fastest pull | |",
        "|---|---:|---:|---:|---|",
    ]
    for (workload, line), sides in starts.cells.items():
        pulls = {side: sides[side] for side in PULLS if side in sides}
        if line == LINES[-1] and pulls and workload != EVERYTHING:
            best = min(pulls, key=lambda side: pulls[side][0])
            ours = [
                _cell(sides[side], most * pulls[best][0]) if side in sides else "-"
                for side, most in ((COLD, BEHIND), (PROFILED, 1.0))
            ]
            lines.append(f"| {workload} | {' | '.join(ours)} | {_cell(pulls[best])} | {best} |")
    told = (
        "Seconds to the result, requests, MB. Bold: with profile slower than the fastest pull, or cold "
        f"slower than {BEHIND:g} times it. {starts.source()}"
    )
    return "\n".join([*lines, "", told, ""])


def _cell(cell: Cell, most: float = math.inf) -> str:
    """Returns a cell in words; bold if it took more than `most` seconds."""
    seconds, requests, megabytes = cell
    shown = f"{seconds:.1f} s"
    return f"{f'**{shown}**' if seconds > most else shown}, {requests:,.0f}, {megabytes:,.1f} MB"


def losses(starts: Starts) -> str:
    """Returns every program and line on which some other way was faster than lazyfs, as Markdown."""
    lines = [
        "| program | line | fastest other way, seconds | lazyfs cold | with profile |",
        "|---|---|---:|---:|---:|",
    ]
    for (workload, line), sides in starts.cells.items():
        others = {
            side: cell[0] for side, cell in sides.items() if not side.startswith("lazyfs") and side != LOCAL
        }
        if not others:
            continue
        best = min(others, key=others.__getitem__)
        ours = [sides[side][0] if side in sides else None for side in (COLD, PROFILED)]
        if any(seconds is not None and seconds > others[best] for seconds in ours):
            shown = ["-" if seconds is None else _against(seconds, others[best]) for seconds in ours]
            lines.append(
                f"| {workload} | {line_name(line)} | {best}: {others[best]:.1f} | {' | '.join(shown)} |"
            )
    return "\n".join([*lines, "", "Bold: slower than the other way.", starts.source(), ""])


def _against(seconds: float, other: float) -> str:
    return f"**{seconds:.1f}**" if seconds > other else f"{seconds:.1f}"


def picture(starts: Starts) -> str:
    """Returns an SVG with a bar for each start of SHOWN on the last of LINES, the fastest first."""
    line = LINES[-1]
    rows = sorted((cell[0], side, cell[2]) for side, cell in starts.cells.get((SHOWN, line), {}).items())
    height, left, width = 26 * len(rows) + 50, 230, 380
    longest = max((row[0] for row in rows), default=1.0)
    title = f"Seconds to the result of {SHOWN}, and MB from the origin; {line_name(line)}"
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="15" fill="#222222">{title}</text>',
        *_bars(rows, left, width / longest),
        "</svg>",
    ]
    return "\n".join(shapes) + "\n"


def _bars(rows: list[tuple[float, str, float]], left: int, scale: float) -> Iterator[str]:
    for number, (seconds, side, megabytes) in enumerate(rows):
        top, colour = 40 + 26 * number, "#1f4e79" if side.startswith("lazyfs") else "#9dc3e6"
        end = left + seconds * scale
        yield f'<text x="{left - 8}" y="{top + 14}" text-anchor="end" fill="#222222">{side}</text>'
        yield f'<rect x="{left}" y="{top}" width="{seconds * scale:.1f}" height="19" fill="{colour}"/>'
        told = f"{seconds:.1f} s, {megabytes:.0f} MB"
        yield f'<text x="{end + 6:.1f}" y="{top + 14}" fill="#222222">{told}</text>'


def files(result: dict[str, Any]) -> dict[str, str]:
    """Returns name -> content of the files that are made from a startup result."""
    starts = Starts(result)
    return {
        "front.md": table(starts),
        "images.md": images(starts),
        "losses.md": losses(starts),
        "front.svg": picture(starts),
    }


def write(results: Path = RESULTS) -> None:
    """Writes the files beside the startup result, if there is one."""
    measured = results / "startup.json"
    if measured.is_file():
        for name, text in files(json.loads(measured.read_text())).items():
            (results / name).write_text(text)


if __name__ == "__main__":
    write()
