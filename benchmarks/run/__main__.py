"""The time that `lazyfs run` adds to a runtime's own start of `true`, in an image on a mount.

    [chrt --fifo 1] python -m benchmarks.run [--quick] [--json FILE]

Needs root and the runtimes. All sides take turns, and each round begins with another one. Round 0 is not
counted, because it fills the cache and probes the runtimes. The bare start of bubblewrap has exactly the
arguments that lazyfs gives it. The bare starts of the other runtimes are what a person would type to run the
same program in the same image.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import Facts, gather
from benchmarks.run.bare import bare_commands
from tests.support.cli import lazyfs, mounted, new_repository
from tests.support.oci_images import Built, entry, layer
from tests.support.runtimes import search_path

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NAME: Final = "registry.example/tools/busybox:1"
BOUND_MS: Final = 80.0
FIRST: Final = "bubblewrap"
"""The runtime whose bare start has exactly the arguments that lazyfs gives it."""


class Row(msgspec.Struct, frozen=True):
    """One runtime. Figures are medians over the rounds."""

    runtime: str
    bare_ms: float
    lazyfs_ms: float
    added_ms: float
    """`lazyfs_ms` minus `bare_ms`."""
    bare_cpu_ms: float
    """User and system time of all processes of the start."""
    lazyfs_cpu_ms: float


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    rounds: int
    python_ms: float
    """Median duration of a start of Python that does nothing. This is part of what lazyfs adds."""
    rows: list[Row]


def once(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns its wall time and processor time in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3


def measure(sides: dict[str, list[str]], rounds: int) -> dict[str, tuple[float, float]]:
    """Returns side -> medians of (wall time, processor time) in milliseconds."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            sample = once(sides[name])
            if turn > 0:
                samples[name].append(sample)
    return {
        name: (statistics.median(wall for wall, _ in taken), statistics.median(cpu for _, cpu in taken))
        for name, taken in samples.items()
    }


def publish(work: Path) -> Path:
    """Publishes an image of busybox with a config; returns the path of the store."""
    directories = [entry(name, tarfile.DIRTYPE) for name in ("bin", "etc", "proc", "dev", "sys", "tmp")]
    files = [entry(f"etc/{name}") for name in ("hosts", "resolv.conf", "passwd", "group")]
    programs = [entry(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in ("true", "sh")]
    busybox = entry("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    built = Built([layer(*directories, *files, busybox, *programs)], config={"Env": ["LANG=C.UTF-8"]})
    layout = built.write_layout(work / "layout")
    store, keys = new_repository(work)
    lazyfs("publish", f"oci:{layout}", store, "--as", NAME, "--keys", keys)
    return store


def main() -> int:
    """Reads the command line, measures, and prints the table. Returns the exit code: BOUND_MISSED if the
    bound is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 21")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    options = parser.parse_args()
    os.environ |= {"PATH": search_path(), "USER": "root"}
    rounds = 5 if options.quick else 21
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lazyfs-run-bench-")))
        work.chmod(0o755)
        store = publish(work)
        trust = ("--trust", store / "metadata/1.root.json", "--cache", work / "cache")
        mount = stack.enter_context(mounted(store, work / "mount", *trust))
        start = [str(Path(sys.executable).with_name("lazyfs")), "run", str(mount / NAME)]
        shown = subprocess.run(
            [*start, "--runtime", FIRST, "--explain", "--json", "--", "true"],
            check=True,
            stdout=subprocess.PIPE,
        )
        described = json.loads(shown.stdout)
        bare = {FIRST: described["argv"], **bare_commands(described["image"])}
        sides = {"python": [sys.executable, "-E", "-P", "-c", "pass"]}
        for runtime, command in bare.items():
            sides[f"bare {runtime}"] = command
            sides[f"lazyfs {runtime}"] = [*start, "--runtime", runtime, "--", "true"]
        medians = measure(sides, rounds)
    rows = [row(runtime, medians) for runtime in bare]
    asked = " --quick" if options.quick else ""
    result = Result(
        "run", f"python -m benchmarks.run{asked}", gather(CHECKOUT), rounds, medians["python"][0], rows
    )
    print(table(result))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return BOUND_MISSED if max(row.added_ms for row in rows) > BOUND_MS else 0


def row(runtime: str, medians: dict[str, tuple[float, float]]) -> Row:
    """Returns the row of one runtime."""
    (bare, bare_cpu), (ours, ours_cpu) = medians[f"bare {runtime}"], medians[f"lazyfs {runtime}"]
    rounded = (round(value, 1) for value in (bare, ours, ours - bare, bare_cpu, ours_cpu))
    return Row(runtime, *rounded)


def table(result: Result) -> str:
    """Returns the result as Markdown."""
    facts = result.facts
    lines = [
        f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores, "
        f"{facts.system}, Linux {facts.kernel}, Python {facts.python}.",
        "",
        f"Milliseconds, medians of {result.rounds} starts of `true` from a warm mount. A start of Python "
        f"alone: {result.python_ms:.0f} ms.",
        "",
        "| runtime | bare | by lazyfs | added | processor time, bare | by lazyfs |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.runtime} | {row.bare_ms:.0f} | {row.lazyfs_ms:.0f} | {row.added_ms:.0f} "
        f"| {row.bare_cpu_ms:.0f} | {row.lazyfs_cpu_ms:.0f} |"
        for row in result.rows
    ]
    return "\n".join(lines)


sys.exit(main())
