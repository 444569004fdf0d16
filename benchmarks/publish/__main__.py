"""`python -m benchmarks.publish [--quick] [--json FILE] [--rounds N] [--layout DIR]`: as root.

Needs skopeo, umoci and debootstrap.

In each round, publishes an image of at least 2 GB (--quick: 0.5 GB) into a fresh repository, copies the same
image with skopeo, and unpacks it with umoci. Every run starts with the input in the page cache and no dirty
pages, and ends when its output is on the disk. The exit code is 3 if a bound is exceeded: 400 MB of memory,
or the time of the other tools.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.publish.image import TAG, make

MEMORY_BOUND = 400 << 20
FULL, QUICK = 2 << 30, 500 << 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.publish")
    parser.add_argument("--quick", action="store_true", help="an image of 0.5 GB, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--layout", type=Path, metavar="DIR", help=f"an OCI layout with tag {TAG} made before"
    )
    parser.add_argument("--keep", action="store_true", help="leave the image for --layout")
    asked = parser.parse_args()
    missing = [tool for tool in ("skopeo", "umoci", "tar", "debootstrap") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        print(f"needs root and these programs: {', '.join(missing) or 'all here'}", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="lazyfs-bench-"))
    try:
        if asked.layout:
            layout, size = asked.layout, 0
        else:
            layout, size = make(directory, QUICK if asked.quick else FULL)
        result = measure(directory, layout, 1 if asked.quick else asked.rounds)
    finally:
        if asked.keep and not asked.layout:
            print(f"image kept: {directory}/layout", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    result = {
        "facts": msgspec.to_builtins(gather(Path(__file__).resolve().parents[2])),
        "image": {"bytes": size, "layers": layers_of(layout) if layout.exists() else None},
        **result,
    }
    print(table(result))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["memory_ratio"] < 1 and result["time_ratio"] <= 1 else BOUND_MISSED


def layers_of(layout: Path) -> int:
    """Returns the number of layers of the image."""
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    return len(json.loads((layout / "blobs/sha256" / digest).read_text())["layers"])


def measure(directory: Path, layout: Path, rounds: int) -> dict[str, Any]:
    """Measures all tools in turn, round after round; returns medians."""
    runs: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        work = directory / f"round{number}"
        work.mkdir()
        lazyfs = [sys.executable, "-m", "lazyfs"]
        repository = [str(work / "store"), "--keys", str(work / "keys")]
        subprocess.run(
            [*lazyfs, "repo", "init", *repository, "--name", "bench.example.org"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        image = f"oci:{layout}:{TAG}"
        publish = [*lazyfs, "publish", image, *repository, "--as", "r.example/x:1"]
        contenders = {
            "lazyfs publish": publish,
            "skopeo copy": ["skopeo", "copy", "-q", image, f"oci:{work}/copy:{TAG}"],
            "umoci unpack": ["umoci", "unpack", "--image", f"{work}/copy:{TAG}", f"{work}/bundle"],
            "lazyfs publish again": publish,
        }
        for name, command in contenders.items():
            runs.setdefault(name, []).append(timed(command, layout))
        shutil.rmtree(work)
    medians = {
        name: {key: statistics.median(run[key] for run in made) for key in made[0]}
        for name, made in runs.items()
    }
    peers = medians["skopeo copy"]["seconds"] + medians["umoci unpack"]["seconds"]
    return {
        "medians": medians,
        "rounds": runs,
        "peers_seconds": peers,
        "time_ratio": medians["lazyfs publish"]["seconds"] / peers,
        "memory_ratio": medians["lazyfs publish"]["peak_bytes"] / MEMORY_BOUND,
    }


def timed(command: list[str], layout: Path) -> dict[str, float]:
    """Returns the wall time of one command until its output is on the disk, its CPU time, and its peak
    memory."""
    subprocess.run(
        ["cat", *map(str, (layout / "blobs/sha256").iterdir())], check=True, stdout=subprocess.DEVNULL
    )
    os.sync()
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    with process.stderr:
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: {process.stderr.read().decode()}")
    os.sync()
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the result as a table."""
    lines = ["| | seconds | CPU seconds | peak memory, MB |", "|---|---|---|---|"]
    for name, median in result["medians"].items():
        memory = median["peak_bytes"] / 1e6
        lines.append(f"| {name} | {median['seconds']:.1f} | {median['cpu_seconds']:.1f} | {memory:.0f} |")
    lines += [
        "",
        f"time against skopeo copy + umoci unpack: {result['time_ratio']:.2f} (bound 1)",
        f"peak memory against 400 MB: {result['memory_ratio']:.2f} (bound 1)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
