"""A site of a thousand workers, two proxies and one origin, simulated.

    python -m benchmarks.site [--quick] [--json FILE]   the scenarios, from the recorded starts in starts.json
    python -m benchmarks.site validate [--json FILE]    a small day at real mounts and servers, and simulated
    python -m benchmarks.site record                    records the starts anew

The simulation needs nothing but processor time, half an hour of it, and gives the same counts at each run.
`validate` and `record` need root, squid, nginx and FUSE. The exit code is BOUND_MISSED if a bound of
benchmarks/site/report.py is not kept.
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.site import report, starts
from benchmarks.site.result import Result, Row, Validation
from benchmarks.site.scenarios import VARIANTS, Size, simulate
from benchmarks.site.tiers import Settings

_CHECKOUT: Final = Path(__file__).parents[2]
QUICK: Final = Size(workers=50, jobs=1200, morning_jobs=400)


def main() -> int:
    """Reads the command line and does what it says. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.workers} workers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("what", nargs="?", choices=("simulate", "validate", "record"), default="simulate")
    options = parser.parse_args()
    if options.what == "record":
        from benchmarks.site.record import record

        starts.RECORDED.write_bytes(msgspec.json.encode(record()) + b"\n")
        return 0
    if options.what == "validate":
        from benchmarks.site.validation import validate

        return _validated(validate(), options.json)
    return _simulate(QUICK if options.quick else Size(), quick=options.quick, json=options.json)


def _validated(found: Validation, json: Path | None) -> int:
    page = report.validated(found)
    print(page)
    if json:
        made = {"facts": gather(_CHECKOUT), "validation": found}
        json.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
        json.with_suffix(".md").write_text(page)
    return BOUND_MISSED if report.too_far(found) else 0


def _simulate(size: Size, *, quick: bool, json: Path | None) -> int:
    with ProcessPoolExecutor() as pool:
        rows = [row for found in pool.map(_rows, VARIANTS, [size] * len(VARIANTS)) for row in found]
    command = f"python -m benchmarks.site{' --quick' if quick else ''}"
    recorded = starts.load()
    result = Result("site", command, gather(_CHECKOUT), recorded.commit, size.workers, _by_scenario(rows))
    print(report.document(result))
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    bad = report.missed(rows)
    for line in bad:
        print(f"site: {line}", file=sys.stderr)
    return BOUND_MISSED if bad else 0


def _by_scenario(rows: Iterable[Row]) -> list[Row]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.scenario, []).append(row)
    return [row for some in found.values() for row in some]


def _rows(variant: str, size: Size) -> list[Row]:
    recording = starts.load()
    rows: list[Row] = []

    def done(row: Row) -> None:
        rows.append(row)
        print(f"site: {row.variant}, {row.scenario}", file=sys.stderr, flush=True)

    simulate(recording, variant, size, Settings(recording.squid, recording.nginx), done)
    return rows


if __name__ == "__main__":
    sys.exit(main())
