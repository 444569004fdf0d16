"""Starts 64 processes at once on one mount, and compares processor time and operations with other file
systems.

    python -m benchmarks.processes [--quick] [--json FILE] [--rounds N]

Needs root, and the packages that tools/bench installs. In each round every side is mounted anew for each
batch of programs, in turns, so that the kernel has no page or name of it, while the disk caches and the
squashfs files stay in the machine's page cache. The batch is then started twice: with cold pages, with warm
pages. The exit code is BOUND_MISSED if a bound of `report.bounds` is exceeded.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.processes import report
from benchmarks.processes.gil import LockSampler
from benchmarks.processes.operations import Tracer, tracer
from benchmarks.processes.programs import BATCHES, COUNT, Batch
from benchmarks.processes.result import Case, Result, Starts
from benchmarks.processes.sides import SIDES, TREE, Prepared, Served, missing_tools
from benchmarks.startup import origin
from benchmarks.startup.group import Group
from benchmarks.startup.images import analysis_image

_CHECKOUT: Final = Path(__file__).parents[2]
_NUMBER: Final = itertools.count()


def main() -> int:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    asked = parser.parse_args()
    if os.geteuid() != 0 or missing_tools():
        print(f"needs root and these programs: {', '.join(missing_tools()) or 'all here'}", file=sys.stderr)
        return 2
    image = analysis_image()
    tree = Path(origin.unpack(image))
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as made, tracer(Path(made)) as traced:
        prepared = Prepared(tree, tree.parent, Path(made))
        prepared.prepare()
        cases = measure(prepared, traced, 2 if asked.quick else asked.rounds)
    command = "python -m benchmarks.processes" + (" --quick" if asked.quick else "")
    result = Result("processes", command, gather(_CHECKOUT), image.without_place(), COUNT, cases)
    print("\n".join(report.tables(result)))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return 0 if all(one.reached for one in report.bounds(result)) else BOUND_MISSED


def measure(prepared: Prepared, traced: Tracer, rounds: int) -> list[Case]:
    """Measures every batch on every side, in turns. A round before the first one is not counted: it fills the
    machine's page cache and the disk cache of lazyfs."""
    cold: defaultdict[tuple[str, str], list[Starts]] = defaultdict(list)
    warm: defaultdict[tuple[str, str], list[Starts]] = defaultdict(list)
    for number in range(-1, rounds):
        for batch in BATCHES:
            for side in SIDES:
                found = both(prepared, traced, side, batch)
                if number >= 0:
                    cold[batch.name, side].append(found[0])
                    warm[batch.name, side].append(found[1])
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return [
        Case(batch.name, side, [] if side == TREE else cold[batch.name, side], warm[batch.name, side])
        for batch in BATCHES
        for side in SIDES
    ]


def both(prepared: Prepared, traced: Tracer, side: str, batch: Batch) -> tuple[Starts, Starts]:
    """Mounts a side and starts the batch with cold pages, then with warm ones."""
    group = Group(f"lazyfs-bench-{os.getpid()}-{next(_NUMBER)}")
    try:
        with prepared.serve(side, group) as served:
            cold = start(served, group, traced, batch, 1)
            return cold, start(served, group, traced, batch, batch.again)
    finally:
        group.remove()


def start(served: Served, group: Group, traced: Tracer, batch: Batch, times: int) -> Starts:
    """Starts a batch `times` times. Returns the averages, but operations and hand-overs of all times
    together."""
    sampler = LockSampler(served.daemon) if served.daemon else None
    if served.mountpoint:
        traced.start(served.mountpoint)
    before = group.cpu_seconds()
    if sampler:
        sampler.start()
    done = subprocess.run(
        [sys.executable, "-I", "-S", Path(__file__).with_name("starts.py"), served.root, str(times)],
        input=json.dumps(batch.commands),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    held, switches = sampler.stop() if sampler else (0.0, 0)
    server = (group.cpu_seconds() - before) / times
    operations = traced.stop() if served.mountpoint else {}
    found = json.loads(done.stdout)
    return Starts(found["seconds"], found["cpu_seconds"], server, operations, held, switches)


if __name__ == "__main__":
    sys.exit(main())
