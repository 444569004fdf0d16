"""The tables of the profiles benchmark, and its bounds."""

from statistics import median
from typing import Final, NamedTuple

from benchmarks.profiles.result import Result, Row

PACKS: Final = "packs, without guesses"
GUESSED: Final = "with profile, guessed"
INHERITED: Final = "with profile, inherited"
OWN: Final = "with profile, recorded"
WARM: Final = "with profile, inherited, after the old tag"

GUESSED_TIME: Final = 0.7
"""The longest start with a guessed profile, as a share of one with packs alone."""
WASTED: Final = 0.25
AHEAD: Final = 0.8
INHERITED_TIME: Final = 1.3
FETCHED: Final = 1.3
"""The largest number of bytes that a worker with the old tag fetches for the new one, for each changed byte
that the start touches."""


class Bound(NamedTuple):
    """A figure of a result, and the bound that it must keep."""

    said: str
    figure: float
    bound: float
    least: bool = False
    """True if the figure must not be lower than the bound, False if not higher."""

    @property
    def kept(self) -> bool:
        return self.figure >= self.bound if self.least else self.figure <= self.bound


def bounds(result: Result) -> list[Bound]:
    """Returns the bounds of a result."""
    found = []
    for one in result.guessed:
        times = [_seconds(_row(result, one.program, side)) for side in (GUESSED, PACKS)]
        found.append(Bound(f"{one.program}: seconds, guessed / packs", times[0] / times[1], GUESSED_TIME))
        found.append(Bound(f"{one.program}: bytes wasted by the guess", one.wasted, WASTED))
    new = result.inherited
    (program,) = {row.program for row in result.rows if row.side == INHERITED}
    times = [_seconds(_row(result, program, side)) for side in (INHERITED, OWN)]
    fetched = median(start.bytes_from_origin for start in _row(result, program, WARM).starts)
    return [
        *found,
        Bound(f"{program}, new tag: touched objects that come ahead", new.ahead, AHEAD, least=True),
        Bound(f"{program}, new tag: seconds, inherited / recorded", times[0] / times[1], INHERITED_TIME),
        Bound(
            f"{program}, new tag on the old tag's worker: bytes / changed bytes",
            fetched / new.changed_bytes,
            FETCHED,
        ),
    ]


def _row(result: Result, program: str, side: str) -> Row:
    return next(row for row in result.rows if (row.program, row.side) == (program, side))


def _seconds(row: Row) -> float:
    return median(start.seconds for start in row.starts)


def document(result: Result) -> str:
    """Returns the result as Markdown. Figures of starts are medians."""
    facts, new = result.facts, result.inherited
    head = "| program | side | starts | result, s | requests | waits | MB from origin | CPU s |"
    lines = [
        f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores. "
        f"Line: {result.line}. Every start has an empty cache unless its side says otherwise.",
        "",
        head,
        "|---|---|" + "---:|" * 6,
        *map(_line, result.rows),
        "",
        f"The new tag's start touches {new.touched:,} objects and small files, of which the old tag lacks "
        f"{new.changed:.0%} ({new.changed_bytes / 1e6:.1f} MB stored).",
        "",
        "| figure | measured | bound | |",
        "|---|---:|---:|---|",
    ]
    for one in bounds(result):
        side = "at least" if one.least else "at most"
        lines.append(
            f"| {one.said} | {one.figure:.2f} | {side} {one.bound:g} | {'kept' if one.kept else 'missed'} |"
        )
    return "\n".join(lines)


def _line(row: Row) -> str:
    def middle(field: str) -> float:
        return float(median(getattr(start, field) for start in row.starts))

    return (
        f"| {row.program} | {row.side} | {len(row.starts)} | {middle('seconds'):.2f} "
        f"| {middle('requests'):.0f} | {middle('waits'):.0f} | {middle('bytes_from_origin') / 1e6:.1f} "
        f"| {middle('cpu_seconds'):.2f} |"
    )
