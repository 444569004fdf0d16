"""Tables and plots of a startup result."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.startup import comparison
from benchmarks.startup.plan import CASYNC, COLD, LOCAL, PROFILED
from benchmarks.startup.result import CaseResult, Result
from benchmarks.startup.services import Line
from benchmarks.startup.workloads import WORKLOADS

LEVEL: Final = 0.05
"""If the medians of two sides differ by no more than this fraction, the sides are called level."""
ROUND_TRIPS: Final = 4
"""The fewest round trips of a cold start: connection, signed metadata, catalog, content."""
_HEAD: Final = (
    "| side | mounted or pulled, s | first output, s | result, s | fastest to slowest, s "
    "| against lazyfs cold | requests | waits | MB from origin | MB on disk | disk/unpacked | peak MB "
    "| CPU s |\n"
    "|---|" + "---:|" * 12 + "\n"
)


def document(result: Result) -> str:
    """Returns all tables as Markdown. Every figure, except the fastest and the slowest result, is a median
    over the starts of its row."""
    facts = result.facts
    parts = [
        f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores, "
        f"{facts.memory_bytes / 1e9:.0f} GB, {facts.system}, Linux {facts.kernel}, Python {facts.python}.\n"
    ]
    parts += [f"{_source(result, run)}\n" for run in range(len(result.earlier))]
    parts += [
        f"Image `{image.name}`: {image.layers} layers, {image.entries:,} entries, "
        f"{image.unpacked_bytes / 1e6:,.1f} MB unpacked, {image.compressed_bytes / 1e6:,.1f} MB as layers"
        f"{', started from a disk in memory' if image.started_in_memory else ''}.\n"
        for image in result.images
    ]
    for (line, workload), rows in _groups(result):
        parts.append(f"### {workload}, {line} ({_repeats(rows)} starts each)\n\n{_table(result, line, rows)}")
    compared = comparison.document(result)
    return "\n".join([*parts, compared] if compared else parts)


def _groups(result: Result) -> Iterable[tuple[tuple[Line, str], list[CaseResult]]]:
    groups: dict[tuple[Line, str], list[CaseResult]] = {}
    for case in result.cases:
        if case.starts:
            groups.setdefault((case.line, case.workload), []).append(case)
    return groups.items()


def _repeats(rows: list[CaseResult]) -> str:
    counts = sorted({len(row.starts) for row in rows})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _table(result: Result, line: Line, rows: list[CaseResult]) -> str:
    cold = next((row for row in rows if row.side == COLD), None)
    return _HEAD + "".join(_row(result, row, cold) for row in rows) + "\n" + _verdicts(line, rows, cold)


def _row(result: Result, row: CaseResult, cold: CaseResult | None) -> str:
    seconds = row.median("seconds")
    ratio = f"{seconds / cold.median('seconds'):.2f}" if cold else ""
    unpacked = next(i.unpacked_bytes for i in result.images if i.name == WORKLOADS[row.workload].image)
    disk = row.median("disk_bytes")
    # casync keeps no data, and the tree that was unpacked before is not in the worker's directory
    share = "-" if row.side in (CASYNC, LOCAL) else f"{disk / unpacked:.0%}"
    cells = [
        row.side,
        f"{row.median('seconds_to_fetch'):.2f}",
        f"{row.median('seconds_to_output'):.2f}",
        f"{seconds:.2f}",
        _spread([start.seconds for start in row.starts]),
        ratio,
        f"{row.median('requests'):,.0f}",
        "-" if any(start.waits is None for start in row.starts) else f"{row.median('waits'):,.0f}",
        f"{row.median('bytes_from_origin') / 1e6:.2f}",
        f"{disk / 1e6:,.1f}",
        share,
        f"{row.median('peak_memory') / 1e6:.0f}",
        f"{row.median('cpu_seconds'):.2f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def _spread(seconds: list[float]) -> str:
    """Returns the fastest and the slowest start of a row; of a single start there is no spread to show."""
    return f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "-"


def _source(result: Result, run: int) -> str:
    """Returns a sentence with the rows that an earlier run made."""
    made = result.earlier[run]
    names = dict.fromkeys(f"{case.workload}, {case.line}" for case in result.cases if case.run == run)
    return f"From an earlier run, `{made.command}` at commit {made.facts.commit}: {'; '.join(names)}."


def limit(line: Line, bytes_needed: float) -> float:
    """Returns the fewest seconds that any lazy filesystem takes on this line: the bytes at line rate, and the
    round trips."""
    return bytes_needed * 8 / (line.mbit * 1e6) + ROUND_TRIPS * line.rtt_ms / 1000


def _verdicts(line: Line, rows: list[CaseResult], cold: CaseResult | None) -> str:
    if cold is None:
        return ""
    ours = cold.median("seconds")
    others = [row for row in rows if not row.side.startswith("lazyfs") and row.side != LOCAL]
    lines = []
    timed = sorted((row.median("seconds"), row.side) for row in others)
    for verb in _VERBS:
        named = [
            f"{side} ({seconds:.2f} s, {_times(ours, seconds)})"
            for seconds, side in timed
            if _verb(ours, seconds) == verb
        ]
        if named:
            lines.append(f"lazyfs cold ({ours:.2f} s) {verb} {', '.join(named)}.")
    needed = min(row.median("bytes_from_origin") for row in rows if row.side in (COLD, PROFILED))
    local = next((row for row in rows if row.side == LOCAL), None)
    program = f", and the program alone takes {local.median('seconds'):.2f} s" if local else ""
    lines.append(
        f"Physical limit of a lazy start: the {needed / 1e6:.2f} MB that it was seen to do with at line "
        f"rate, and {ROUND_TRIPS} round trips, {limit(line, needed):.2f} s{program}."
    )
    return "\n".join(lines) + "\n"


_VERBS: Final = ("loses to", "is level with", "is ahead of")


def _verb(ours: float, theirs: float) -> str:
    if max(ours, theirs) <= min(ours, theirs) * (1 + LEVEL):
        return _VERBS[1]
    return _VERBS[0] if theirs < ours else _VERBS[2]


def _times(ours: float, theirs: float) -> str:
    return f"{max(ours, theirs) / min(ours, theirs):.2f} times"


def plot(result: Result, stem: Path) -> None:
    """Draws `stem`.png and `stem`.svg: the seconds to output and to result of every side, for each program
    and line."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lazyfs"  # the same result makes the same file
    from matplotlib import pyplot

    groups = list(_groups(result))
    columns = min(len(groups), 2)
    rows = -(-len(groups) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(7 * columns, 3.2 * rows), squeeze=False)
    for axis, ((line, workload), cases) in zip(axes.flat, groups, strict=False):
        names = [case.side for case in cases]
        output = [case.median("seconds_to_output") for case in cases]
        total = [case.median("seconds") for case in cases]
        axis.barh(names, total, color="#9dc3e6", label="result")
        axis.barh(names, output, color="#1f4e79", height=0.4, label="first output")
        for position, (case, seconds) in enumerate(zip(cases, total, strict=True)):
            megabytes = case.median("bytes_from_origin") / 1e6
            axis.annotate(f" {megabytes:.1f} MB", (seconds, position), va="center", fontsize=8)
        axis.invert_yaxis()
        axis.set_title(f"{workload}, {line}")
        axis.set_xlabel("seconds")
        axis.margins(x=0.15)
    axes.flat[0].legend(fontsize=8, loc="lower right")
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(stem.with_suffix(".png"), dpi=110, metadata={"Software": None})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    pyplot.close(figure)
