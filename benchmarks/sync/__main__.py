"""`python -m benchmarks.sync [--quick] [--json FILE] [--rounds N]`: as root.

Needs skopeo, umoci, docker-registry, htpasswd and debootstrap.

A registry on this machine has eight images (--quick: three). `lazyfs sync` publishes them into a fresh
repository. `skopeo sync` copies them into a directory, and `umoci unpack` then unpacks each image. The sides
take turns. Every run starts with the registry's files in the page cache and no dirty pages, and ends when its
output is on the disk. skopeo's output must be made into an OCI layout for umoci; this is not counted. The
exit code is 3 if a bound is exceeded: 0.6 of the other tools' time, or 400 MB of memory.
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
from benchmarks.sync.images import OWN, as_layout, make
from tests.support.registry import RealRegistry, real_registry

TIME_BOUND = 0.6
MEMORY_BOUND = 400_000_000
REPOSITORY = "bench/app"
NAMES = ("lazyfs sync", "skopeo sync", "umoci unpack")
LAZYFS = [sys.executable, "-m", "lazyfs"]

Run = dict[str, float]
"""The figures of one run: seconds, processor seconds, peak memory of the largest process in bytes, and
requests to the registry."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.sync")
    parser.add_argument("--quick", action="store_true", help="three images, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    needed = ("skopeo", "umoci", "docker-registry", "htpasswd", "debootstrap")
    missing = [tool for tool in needed if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        print(f"needs root and these programs: {', '.join(missing) or 'all here'}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as name:
        directory = Path(name)
        layout, tags = make(directory, 3 if asked.quick else len(OWN))
        with real_registry(directory / "registry", accounts_needed=False) as registry:
            for tag in tags:
                registry.push(layout, tag, f"{REPOSITORY}:{tag}", "--preserve-digests")
            stored = sum(file.stat().st_size for file in (layout / "blobs/sha256").iterdir())
            shutil.rmtree(layout)
            result = measure(directory, registry, tags, stored, 1 if asked.quick else asked.rounds)
    print(table(result))
    if asked.json:
        facts = msgspec.to_builtins(gather(Path(__file__).resolve().parents[2]))
        asked.json.write_text(json.dumps({"facts": facts, **result}, indent=1) + "\n")
    good = result["time_ratio"] <= TIME_BOUND and result["memory_ratio"] < 1
    return 0 if good else BOUND_MISSED


def measure(
    directory: Path, registry: RealRegistry, tags: list[str], stored: int, rounds: int
) -> dict[str, Any]:
    """Measures every side in turn, round after round. Returns the medians and their comparison. `stored` is
    the total size of all images in the registry, with each layer counted once."""
    runs: dict[str, list[Run]] = {name: [] for name in NAMES}
    for number in range(rounds):
        work = directory / f"round{number}"
        work.mkdir()
        runs["lazyfs sync"].append(_lazyfs(work, registry, tags))
        copied = work / "copied"
        runs["skopeo sync"].append(_skopeo(work, registry, tags, copied))
        runs["umoci unpack"].append(_umoci(work, copied / f"{registry.host}/{REPOSITORY}", tags))
        shutil.rmtree(work)
        print(f"round {number}: {[round(runs[name][-1]['seconds'], 1) for name in NAMES]}", file=sys.stderr)
    medians = {
        name: {key: statistics.median(run[key] for run in made) for key in made[0]}
        for name, made in runs.items()
    }
    peers = medians["skopeo sync"]["seconds"] + medians["umoci unpack"]["seconds"]
    return {
        "images": len(tags),
        "set_bytes": stored,
        "medians": medians,
        "rounds": runs,
        "peers_seconds": peers,
        "time_ratio": medians["lazyfs sync"]["seconds"] / peers,
        "memory_ratio": medians["lazyfs sync"]["peak_bytes"] / MEMORY_BOUND,
    }


def _lazyfs(work: Path, registry: RealRegistry, tags: list[str]) -> Run:
    store, keys = str(work / "store"), str(work / "keys")
    made = [*LAZYFS, "repo", "init", store, "--keys", keys, "--name", "bench.example.org"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    (work / "list.yaml").write_text(
        "version: 1\ninput:\n" + "".join(f"  - '{registry.host}/{REPOSITORY}:{tag}'\n" for tag in tags)
    )
    (work / "service.toml").write_text(f'[registries."{registry.host}"]\nplain-http = true\n')
    command = [*LAZYFS, "sync", str(work / "list.yaml"), store, "--keys", keys]
    command += ["--config", str(work / "service.toml"), "--status-dir", str(work / "status")]
    return _timed([command], registry)


def _skopeo(work: Path, registry: RealRegistry, tags: list[str], target: Path) -> Run:
    wanted = {registry.host: {"images": {REPOSITORY: tags}, "tls-verify": False}}
    (work / "skopeo.yaml").write_text(json.dumps(wanted))
    command = ["skopeo", "sync", "--src", "yaml", "--dest", "dir", "--scoped", "--src-no-creds"]
    return _timed([[*command, str(work / "skopeo.yaml"), str(target)]], registry)


def _umoci(work: Path, copied: Path, tags: list[str]) -> Run:
    images = [
        as_layout(copied.with_name(f"{copied.name}:{tag}"), work / "layouts" / tag, tag) for tag in tags
    ]
    bundles = work / "bundles"
    bundles.mkdir()
    commands = [
        ["umoci", "unpack", "--image", image, str(bundles / tag)]
        for image, tag in zip(images, tags, strict=True)
    ]
    return _timed(commands, None)


def _timed(commands: list[list[str]], registry: RealRegistry | None) -> Run:
    """Runs commands one after another, until all their output is on the disk. If one fails, raises SystemExit
    with its error output."""
    if registry is not None:
        registry.warm()
        registry.requests()
    os.sync()
    began = time.monotonic()
    cpu, peak = 0.0, 0
    for command in commands:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{' '.join(command)}: {said.read().decode()}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss * 1024)
    os.sync()
    seconds = time.monotonic() - began
    requests = len(registry.requests()) if registry else 0
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "requests": requests}


def table(result: dict[str, Any]) -> str:
    """Returns the result as a table."""
    medians, images, megabytes = result["medians"], result["images"], result["set_bytes"] / 1e6
    peers = [medians["skopeo sync"], medians["umoci unpack"]]
    both = {key: sum(one[key] for one in peers) for key in peers[0]}
    both["peak_bytes"] = max(one["peak_bytes"] for one in peers)
    rows = {
        "lazyfs sync": medians["lazyfs sync"],
        "skopeo sync, then umoci unpack": both,
        "skopeo sync alone": peers[0],
    }
    lines = [
        f"{images} images, {megabytes:.0f} MB at the registry, each layer counted once.",
        "",
        "| | seconds | images a minute | MB/s | CPU seconds | peak memory, MB | requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['seconds']:.1f} | {images / row['seconds'] * 60:.1f} "
            f"| {megabytes / row['seconds']:.1f} | {row['cpu_seconds']:.1f} "
            f"| {row['peak_bytes'] / 1e6:.0f} | {row['requests']:.0f} |"
        )
    lines += [
        "",
        f"time against skopeo sync and umoci unpack: {result['time_ratio']:.2f} (bound {TIME_BOUND})",
        f"peak memory against 400 MB: {result['memory_ratio']:.2f} (bound 1)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
