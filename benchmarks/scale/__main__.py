"""python -m benchmarks.scale [--images 10000] [--json FILE]: mount, list the registry, enter one image."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.facts import gather
from benchmarks.scale.site import FILES, REGISTRY, make
from lazyfs.daemon import control_client

LAZYFS = [sys.executable, "-m", "lazyfs"]


def timed(work: Callable[[], Any]) -> float:
    """Returns the milliseconds that `work` takes."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def run(images: int, directory: Path) -> dict[str, Any]:
    """Makes a repository of `images` images, mounts it, and lists and walks parts of it, step by step.
    Returns the figures of the benchmark, with the time of each step and the daemon's memory after it."""
    store, mnt = directory / "store", directory / "mnt"
    mnt.mkdir()
    made = []
    build = timed(lambda: made.append(make(str(store), str(directory / "keys"), images)))
    registry = mnt / os.fsdecode(REGISTRY)
    one = registry / f"image-{images // 2:05}:1"
    command = [*LAZYFS, "mount", str(store), str(mnt), "--cache", str(directory / "cache")]
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("mount", lambda: subprocess.run(command, check=True)),
        ("ls of the registry", lambda: os.listdir(registry)),
        (
            "ls -l of the registry",
            lambda: [entry.stat(follow_symlinks=False) for entry in os.scandir(registry)],
        ),
        ("enter an image", lambda: os.listdir(one)),
        ("walk the image", lambda: sum(1 for _ in os.walk(one))),
        (
            "walk a second of its family",
            lambda: sum(1 for _ in os.walk(registry / f"image-{images // 2 + 1:05}:1")),
        ),
        (
            "ls -l of the registry again",
            lambda: [entry.stat(follow_symlinks=False) for entry in os.scandir(registry)],
        ),
    ]
    rows = []
    try:
        for name, work in steps:
            milliseconds = timed(work)
            found = control_client.status(control_client.mounted_at(str(mnt)))
            rows.append(
                {
                    "step": name,
                    "ms": round(milliseconds, 1),
                    "objects": found.counters.misses,
                    "catalogs": found.memory.catalogs,
                    "slots": found.memory.slots,
                    "rss_mib": round(_resident(found.pid) / 2**20, 1),
                    "upcalls": sum(found.counters.upcalls.values()),
                }
            )
    finally:
        subprocess.run([*LAZYFS, "umount", str(mnt)], check=True)
    totals = made[0].totals
    return {
        "images": images,
        "files": totals.files,
        "entries": totals.entries,
        "build_ms": round(build),
        "steps": rows,
    }


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as line:
        return int(line.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help=f"each of {FILES} files")
    parser.add_argument("--quick", action="store_true", help="500 images")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lazyfs-scale-") as directory:
        found = run(500 if given.quick else given.images, Path(directory))
    print(f"{found['images']:,} images, {found['files']:,} files; made in {found['build_ms'] / 1e3:.1f} s")
    print(f"{'step':<28}{'ms':>9}{'objects':>9}{'catalogs':>9}{'slots':>8}{'RSS MiB':>9}{'upcalls':>9}")
    for row in found["steps"]:
        print(
            f"{row['step']:<28}{row['ms']:>9}{row['objects']:>9}{row['catalogs']:>9}{row['slots']:>8}"
            f"{row['rss_mib']:>9}{row['upcalls']:>9}"
        )
    if given.json:
        facts = msgspec.to_builtins(gather(Path(__file__).resolve().parents[2]))
        Path(given.json).write_text(json.dumps({"facts": facts} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
