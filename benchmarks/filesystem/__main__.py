"""`python -m benchmarks.filesystem [--quick] [--json FILE] [--only KIND,...]`: needs root and idle CPUs.

Measures all servers once in each round, so that a disturbance affects all of them, and takes medians over the
rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.filesystem import floor, report, tree
from benchmarks.filesystem.servers import Prepared, missing_tools, pin


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.filesystem")
    parser.add_argument("--quick", action="store_true", help="two pinned rounds, 300 small files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(report.KINDS), metavar="KIND,...")
    asked = parser.parse_args()
    if os.geteuid() != 0 or missing_tools():
        print(f"needs root and these programs: {', '.join(missing_tools()) or 'all here'}", file=sys.stderr)
        return 2
    kinds = [kind for kind in report.KINDS if kind in asked.only.split(",")]
    checkout = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as made:
        result = measure(Path(made), kinds, 2 if asked.quick else asked.rounds, asked.quick)
    result = {"facts": msgspec.to_builtins(gather(checkout))} | result
    for place in ("pinned", "unpinned"):
        if place in result:
            print(f"\n### {place}\n\n{report.table(result[place])}")
    print("\n" + report.verdict(result["bounds"]))
    print("\n" + report.floors(result["floors"], result["pinned"]))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(one["ratio"] < one["bound"] for one in result["bounds"]) else BOUND_MISSED


def measure(directory: Path, kinds: list[str], rounds: int, quick: bool) -> dict[str, Any]:
    """Measures every server and returns all figures."""
    root = directory / "tree"
    tree.copy(root)
    every, small = tree.paths(root)
    small = small[: 300 if quick else 2000]
    listed = directory / "paths.json"
    listed.write_text(json.dumps({"every": every, "small": small}))
    files, size = tree.measure(root)
    prepared = Prepared(directory, root)
    result: dict[str, Any] = {
        "tree": {"files": files, "bytes": size, "small_files_read": len(small)},
        "preparing_seconds": prepared.prepare(),
    }
    pinned = report.medians(run(prepared, kinds, rounds, listed, pinned=True))
    floors = floor.measure(directory, listed, rounds)
    result |= {"pinned": pinned, "bounds": report.judge(pinned), "floors": floors}
    if not quick:
        result["unpinned"] = report.medians(run(prepared, kinds, max(rounds - 2, 1), listed, pinned=False))
    return result


def run(prepared: Prepared, kinds: list[str], rounds: int, listed: Path, *, pinned: bool) -> report.Rounds:
    """Runs the rounds of all servers. Each server stays mounted from the first round to the last."""
    found: report.Rounds = {kind: [] for kind in kinds}
    with ExitStack() as mounts:
        served = {kind: mounts.enter_context(prepared.serve(kind, pinned)) for kind in kinds}
        for number in range(rounds):
            for kind, (root, pid) in served.items():
                command = [sys.executable, "-m", "benchmarks.filesystem.client"]
                command += [os.fspath(root), os.fspath(listed), str(pid)]
                done = subprocess.run(pin(command, pinned), check=True, capture_output=True, text=True)
                found[kind].append(json.loads(done.stdout))
                print(f"round {number + 1} of {rounds}: {kind}", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
