"""The processor time of a missed object, stage by stage, compared with the floor: the same work without
lazyfs.

    python -m benchmarks.miss [--quick] [--json FILE] [--against CHECKOUT]

Needs nginx. Each figure is the user and system time of all threads of a client process, without the server.
It is the median of several runs, in which the sides take turns. `--against CHECKOUT` adds rows in which
readers have complete misses with the code of another checkout, run by this checkout's interpreter.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import zstandard

from benchmarks.facts import Facts, gather
from tests.support.nginx import NginxOrigin
from tests.support.store_files import store_object

CHECKOUT: Final = Path(__file__).resolve().parents[2]
COUNTS: Final = {"small": 3000, "large": 300}
"""Kind of object -> number of objects. `small` ones are like files (log-normal around 40 KB, at most 250 KB);
`large` ones have 1 MiB."""


class Side(NamedTuple):
    """One row of the table."""

    label: str
    way: str
    http: str = "pycurl"


SIDES: Final = (
    Side("floor: fetched by libcurl", "floor 1"),
    Side("floor: and verified (zstd, SHA-256)", "floor 2"),
    Side("floor: and written (file, CRCs, rename)", "floor 3"),
    Side("floor: and entered (LMDB, 16 at a time)", "floor 4"),
    Side("chain and loop of attempts", "loop 1"),
    Side("and verified", "loop 2"),
    Side("and claimed and admitted", "loop 3"),
    Side("whole way, fetched ahead", "ahead"),
    Side("whole way, 8 readers", "8"),
    Side("whole way, 1 reader", "1"),
    Side("whole way, fetched ahead, requests", "ahead", "requests"),
)


class Row(msgspec.Struct, frozen=True):
    """One side with one kind of object."""

    kind: str
    side: str
    cpu_us: float
    """Processor time for one object in microseconds: median over the runs."""
    cpu_us_per_mb: float
    """`cpu_us` per million bytes of plaintext."""
    of_floor: float
    """`cpu_us` divided by that of the floor with all its stages."""
    wall_us: float
    runs: int


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    plain: dict[str, float]
    """Kind of object -> mean size of the plaintext in bytes."""
    stored: dict[str, float]
    """Kind of object -> mean size of the stored object in bytes."""
    rows: list[Row]


def make(store: Path, kind: str, count: int) -> tuple[Path, float, float]:
    """Writes `count` objects. Returns the path of a file that lists them, and the mean size of an object in
    bytes, plain and stored."""
    library = next(Path(zstandard.__file__).parent.glob("backend_c*.so"))
    source = library.read_bytes() * 3
    dice = random.Random(kind)
    refs = []
    for number in range(count):
        size = 1 << 20 if kind == "large" else min(int(dice.lognormvariate(10.6, 1.0)), 250_000)
        start = dice.randrange(len(source) - size)
        refs.append(store_object(store, b"%d" % number + source[start : start + size]))
    listed = store / f"{kind}.list"
    listed.write_text("".join(f"{ref.digest.hex()} {ref.size}\n" for ref in refs))
    stored = sum(file.stat().st_size for file in store.rglob("data/*/*"))
    return listed, sum(ref.size for ref in refs) / count, stored / count


def run(url: str, listed: Path, side: Side, checkout: Path | None) -> tuple[float, float]:
    """Runs one side in a new process. Returns the processor time and the wall time for one object, in
    microseconds."""
    directory = tempfile.mkdtemp(prefix="lazyfs-miss-", dir="/dev/shm")  # no disk is measured
    environment = dict(os.environ)
    if checkout is not None:
        environment["PYTHONPATH"] = f"{checkout}:{checkout / 'cache'}"
    command = [sys.executable, str(Path(__file__).with_name("process.py")), url, str(listed)]
    command += [f"{directory}/cache", side.way, side.http]
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=directory
        )
    finally:
        shutil.rmtree(directory)
    cpu, wall = map(float, done.stdout.split())
    return cpu, wall


def measure(
    kind: str, count: int, runs: int, sides: dict[Side, Path | None]
) -> tuple[list[Row], float, float]:
    """Measures all sides on one kind of object. Returns their rows, and the mean size of an object in bytes,
    plain and stored."""
    with tempfile.TemporaryDirectory(prefix="lazyfs-miss-", dir="/dev/shm") as work:
        store = Path(work)
        store.chmod(0o755)
        listed, plain, stored = make(store, kind, count)
        found: dict[Side, list[tuple[float, float]]] = {side: [] for side in sides}
        with NginxOrigin(store) as origin:
            for _ in range(runs):
                for side, checkout in sides.items():
                    found[side].append(run(origin.url, listed, side, checkout))
    cpu = {side: statistics.median(one[0] for one in taken) for side, taken in found.items()}
    floor = next(used for side, used in cpu.items() if side.way == "floor 4")
    rows = [
        Row(
            kind, side.label, used, used / plain * 1e6, used / floor,
            statistics.median(one[1] for one in found[side]), runs,
        )
        for side, used in cpu.items()
    ]  # fmt: skip
    return rows, plain, stored


def table(result: Result) -> Iterator[str]:
    """Returns the lines of a Markdown table for each kind of object."""
    facts = result.facts
    yield f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores."
    for kind, plain in result.plain.items():
        yield ""
        yield f"Objects of {plain / 1024:.1f} KiB plain, {result.stored[kind] / 1024:.1f} KiB stored (means):"
        yield ""
        yield "| side | processor us per object | per MB plain | of the floor | real us |"
        yield "|---|---:|---:|---:|---:|"
        for row in result.rows:
            if row.kind == kind:
                yield (
                    f"| {row.side} | {row.cpu_us:,.0f} | {row.cpu_us_per_mb:,.0f} | {row.of_floor:.2f} "
                    f"| {row.wall_us:,.0f} |"
                )


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miss")
    parser.add_argument("--quick", action="store_true", help="three runs of a third of the objects")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another revision, as a side")
    options = parser.parse_args()
    sides: dict[Side, Path | None] = dict.fromkeys(SIDES)
    if options.against:
        for side in SIDES:
            if side.way.isdigit():
                sides[side._replace(label=f"{side.label}, the other revision")] = options.against.resolve()
    plain, stored, rows = {}, {}, []
    for kind, count in COUNTS.items():
        count = count // 3 if options.quick else count
        found, plain[kind], stored[kind] = measure(kind, count, 3 if options.quick else 5, sides)
        rows += found
    command = "python -m benchmarks.miss" + (" --quick" if options.quick else "")
    command += " --against CHECKOUT" if options.against else ""
    result = Result("miss", command, gather(CHECKOUT), plain, stored, rows)
    print("\n".join(table(result)))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


if __name__ == "__main__":
    main()
