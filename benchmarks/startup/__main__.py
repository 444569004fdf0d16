"""Time to first output and to result, for images that are pulled, unpacked or lazily mounted, with real
runtimes.

    python -m benchmarks.startup [--quick] [--json FILE]

Needs root and the packages that tools/bench installs. The sides are interleaved: each repeat runs every side
of every case once. The result file is rewritten after each repeat, so an interrupted run (ctrl-C) reports all
complete repeats. A run of a part of the plan (--only, --line) keeps the other rows of the result file.
"""

import argparse
import copy
import shlex
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks.facts import gather
from benchmarks.startup import plan, report
from benchmarks.startup.bench import Bench, checkout
from benchmarks.startup.result import CaseResult, Result

_CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Reads the command line and runs the plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--quick", action="store_true", help="the small image on one line, three repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--only", action="append", metavar="WORKLOAD", help="leave out the other programs")
    parser.add_argument("--repeats", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument("--line", action="append", metavar="MS,MBIT", help="leave out the other lines")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="each lazyfs side also with the lazyfs of another checkout, which tools/setup has set up",
    )
    options = parser.parse_args()
    asked = ["--quick"] if options.quick else []
    asked += [f"--only={name}" for name in options.only or []]
    asked += [f"--line={line}" for line in options.line or []]
    asked += [f"--repeats={options.repeats}"] if options.repeats else []
    asked += ["--beside=CHECKOUT"] if options.beside else []
    cases = plan.quick() if options.quick else plan.full()
    if options.only:
        cases = [case for case in cases if case.workload in options.only]
    if options.line:
        cases = [case for case in cases if f"{case.line.rtt_ms:g},{case.line.mbit:g}" in options.line]
    if not cases:
        parser.error("no case of the plan is left")
    if options.repeats:
        cases = [msgspec.structs.replace(case, repeats=options.repeats) for case in cases]
    before = _before(options.json) if options.only or options.line else None
    beside = checkout(options.beside.absolute()) if options.beside else None
    if beside:
        cases = plan.with_revision(cases, beside.label)
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
            if before:
                result.keep(before)
            for repeat in range(max(case.repeats for case in cases)):
                begun = copy.deepcopy(result)
                try:
                    bench.round(repeat, begun)
                except KeyboardInterrupt:
                    break
                result = begun
                if options.json:
                    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
            print(report.document(result))
            if options.json:
                report.plot(result, options.json.with_suffix(""))
    finally:
        shutil.rmtree(work)


def _before(file: Path | None) -> Result | None:
    """Returns the result of an earlier run; None if there is none."""
    if file is None or not file.is_file():
        return None
    return msgspec.json.decode(file.read_bytes(), type=Result)


main()
