"""Time to first output and to result, for images that are pulled, unpacked or lazily mounted, with real
runtimes.

    python -m benchmarks.startup [--quick] [--json FILE]

Needs root and the packages that tools/bench installs. The sides are interleaved: each repeat runs every side
of every case once. The result file is rewritten after each case, so an interrupted run (ctrl-C) reports all
cases that were complete. A run of a part of the plan (--only, --line, --side) keeps the other rows of the
result file. A side that fails is left out of its table and named at the end; the exit code is then 1. Images,
unpacked trees, SIF files and stores are kept for the next run; --prepare makes them, and starts nothing.
"""

import argparse
import copy
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks.facts import gather
from benchmarks.startup import plan, report
from benchmarks.startup.bench import Bench, checkout
from benchmarks.startup.result import CaseResult, Result

_CHECKOUT = Path(__file__).parents[2]


def main() -> int:
    """Reads the command line and runs the plan. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args()
    asked = ["--quick"] if options.quick else []
    asked += [f"--only={name}" for name in options.only or []]
    asked += [f"--line={line}" for line in options.line or []]
    asked += [f"--side={side}" for side in options.side or []]
    asked += [f"--repeats={options.repeats}"] if options.repeats else []
    asked += ["--beside=CHECKOUT"] if options.beside else []
    cases = _cases(options)
    if not cases:
        parser.error("no case of the plan is left")
    before = _before(options.json) if options.only or options.line or options.side else None
    beside = checkout(options.beside.absolute()) if options.beside else None
    if beside:
        cases = plan.with_revision(cases, beside.label)
    begun = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="lazyfs-startup-"))
    work.chmod(0o755)  # squid and apptainer enter it as other users
    try:
        with ExitStack() as stack:
            bench = Bench(stack, work, cases, beside)
            result = Result(
                benchmark="startup",
                command=shlex.join(["python", "-m", "benchmarks.startup", *asked]),
                facts=gather(_CHECKOUT),
                images=bench.started_images(),
                cases=[CaseResult(case.line, case.workload, side) for case in cases for side in case.sides],
            )
            print(f"prepared in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            if options.prepare:
                return 0
            result, failed = _measure(bench, cases, result, before, options.json)
            print(report.document(result))
            if options.json:
                report.plot(result, options.json.with_suffix(""))
            print("".join(f"FAILED: {line}\n" for line in failed), file=sys.stderr, end="")
            return int(bool(failed))
    finally:
        shutil.rmtree(work)


def _cases(options: argparse.Namespace) -> list[plan.Case]:
    """Returns the cases that the options leave of the plan."""
    cases = plan.quick() if options.quick else plan.full()
    if options.only:
        cases = [case for case in cases if case.workload in options.only]
    if options.line:
        cases = [case for case in cases if f"{case.line.rtt_ms:g},{case.line.mbit:g}" in options.line]
    if options.side:
        cases = plan.with_sides(cases, options.side)
    if options.repeats:
        cases = [msgspec.structs.replace(case, repeats=options.repeats) for case in cases]
    return cases


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--quick", action="store_true", help="the small image on one line, three repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--only", action="append", metavar="WORKLOAD", help="leave out the other programs")
    parser.add_argument("--repeats", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument("--line", action="append", metavar="MS,MBIT", help="leave out the other lines")
    sides = (*plan.LAZYFS, *plan.PULLS, plan.CASYNC, plan.LOCAL)
    parser.add_argument("--side", action="append", choices=sides, help="leave out the other sides")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="each lazyfs side also with the lazyfs of another checkout, which tools/setup has set up",
    )
    parser.add_argument("--prepare", action="store_true", help="make what is kept for later runs, and end")
    return parser


def _measure(
    bench: Bench, cases: list[plan.Case], result: Result, before: Result | None, target: Path | None
) -> tuple[Result, list[str]]:
    """Makes the starts of all cases. Returns the result, with rows of an earlier result for what was not
    measured now, and a line for each start that failed. After an interrupt, it returns the complete cases."""
    failed: list[str] = []
    try:
        for repeat in range(max(case.repeats for case in cases)):
            for case in cases:
                if repeat < case.repeats:
                    more = copy.deepcopy(result)
                    failed += bench.start(case, repeat, more)
                    result = more
                    if target:
                        target.write_bytes(
                            msgspec.json.format(msgspec.json.encode(_with(result, before)), indent=1)
                        )
    except KeyboardInterrupt:
        pass
    return _with(result, before), failed


def _with(result: Result, before: Result | None) -> Result:
    kept = copy.deepcopy(result)
    if before:
        kept.keep(before)
    return kept


def _before(file: Path | None) -> Result | None:
    """Returns the result of an earlier run; None if there is none."""
    if file is None or not file.is_file():
        return None
    return msgspec.json.decode(file.read_bytes(), type=Result)


sys.exit(main())
