"""Compares each lazyfs side with the same side of another revision."""

from typing import Final, NamedTuple

from benchmarks.startup.plan import COLD, WARM_NODE, other
from benchmarks.startup.result import CaseResult, Result
from benchmarks.startup.start import Start

MARK: Final = ", at "
"""Separates a side's name from the name of the revision in a row's name."""
_HEAD: Final = (
    "| program | line | side | faster in | time | CPU s | CPU s of the mount | requests | waits | MB |\n"
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


class Pair(NamedTuple):
    """The rows of one side: this checkout's and the other revision's."""

    ours: CaseResult
    theirs: CaseResult


def pairs(result: Result) -> list[Pair]:
    """Returns a pair for each side that was started with both revisions."""
    rows = {(str(case.line), case.workload, case.side): case for case in result.cases if case.starts}
    found = []
    for (line, workload, side), theirs in rows.items():
        ours = rows.get((line, workload, side.partition(MARK)[0]))
        if MARK in side and ours is not None:
            found.append(Pair(ours, theirs))
    return found


def _ratio(pair: Pair, field: str) -> str:
    theirs = pair.theirs.median(field)
    return f"{pair.ours.median(field) / theirs:.2f}" if theirs else "-"


def _faster(pair: Pair) -> str:
    both = list(zip(pair.ours.starts, pair.theirs.starts, strict=False))
    return f"{sum(ours.seconds < theirs.seconds for ours, theirs in both)} of {len(both)}"


def _counts(pair: Pair, field: str, unit: float = 1, shown: str = ",.0f") -> str:
    ours, theirs = pair.ours.median(field) / unit, pair.theirs.median(field) / unit
    return f"{ours:{shown}} / {theirs:{shown}}"


def _row(pair: Pair) -> str:
    cells = (
        pair.ours.workload,
        str(pair.ours.line),
        pair.ours.side,
        _faster(pair),
        _ratio(pair, "seconds"),
        _ratio(pair, "cpu_seconds"),
        _ratio(pair, "cpu_to_fetch"),
        _counts(pair, "requests"),
        _counts(pair, "waits"),
        f"{_counts(pair, 'bytes_from_origin', 1e6, '.1f')} = {_ratio(pair, 'bytes_from_origin')}",
    )
    return f"| {' | '.join(cells)} |\n"


def _above_warm(result: Result, cold: CaseResult, revision: str) -> tuple[float, Start] | None:
    """Returns two things: the median processor time of cold starts minus that of warm starts, in seconds; and
    the cold start with the median processor time. Returns None without warm starts."""
    name = other(WARM_NODE, revision) if revision else WARM_NODE
    for row in result.cases:
        if (row.line, row.workload, row.side) == (cold.line, cold.workload, name) and row.starts:
            middle = sorted(cold.starts, key=lambda start: start.cpu_seconds)[len(cold.starts) // 2]
            return cold.median("cpu_seconds") - row.median("cpu_seconds"), middle
    return None


def _above(result: Result, pair: Pair) -> str:
    revision = pair.theirs.side.partition(MARK)[2]
    ours, theirs = _above_warm(result, pair.ours, ""), _above_warm(result, pair.theirs, revision)
    if ours is None or theirs is None:
        return ""
    cells = [pair.ours.workload, str(pair.ours.line)]
    for seconds, start in (ours, theirs):
        per_object = seconds / max(start.requests, 1) * 1e6
        per_mb = seconds / max(start.bytes_from_origin / 1e6, 1) * 1e3
        cells.append(f"{seconds:.2f} s: {per_object:,.0f} us an object, {per_mb:.1f} ms an MB")
    cells.append(f"{ours[0] / theirs[0]:.2f}" if theirs[0] > 0 else "-")
    return f"| {' | '.join(cells)} |\n"


def document(result: Result) -> str:
    """Returns the comparison as Markdown; an empty text if there is no other revision. Ratios are those of
    medians, and counts are shown as ours / theirs."""
    found = pairs(result)
    if not found:
        return ""
    text = f"### Beside the other revision\n\n{_HEAD}{''.join(map(_row, found))}"
    above = "".join(_above(result, pair) for pair in found if pair.ours.side == COLD)
    if above:
        text += (
            "\nProcessor time of a cold start above one from a warm node cache, for each object fetched and "
            "each MB (benchmarks/miss has the floor):\n\n| program | line | ours | theirs | ratio |\n"
            f"|---|---|---:|---:|---:|\n{above}"
        )
    return text
