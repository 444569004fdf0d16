"""The cache with a million entries, compared with python-diskcache; and eviction policies on traces.

    python -m benchmarks.cache [--quick] [--entries N] [--directory DIR] [--json FILE]

Prints tables, and writes a JSON file if asked. Every step runs in a process of its own. Compare rates only
within one run, because the machine may be shared.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.cache import measures, traces
from benchmarks.cache.policies import POLICIES
from benchmarks.facts import gather

CHECKOUT = Path(__file__).resolve().parents[2]

REQUIRED = {
    "open_seconds": ("at most", 1.0),
    "hits_uniform_per_second": ("at least", 50_000),
    "hits_hot_per_second": ("at least", 50_000),
    "inserts_with_eviction_per_second": ("at least", 5_000),
    "anonymous_memory": ("at most", 100e6),
}


def step(kind: str, root: Path, name: str, entries: int, count: int) -> dict[str, float]:
    """Runs one step in a process of its own; returns its figures by name."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.cache",
        "--step",
        kind,
        str(root),
        name,
        str(entries),
        str(count),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CHECKOUT)
    print(f"{kind} {name} {entries}: {done.stdout.strip()}", file=sys.stderr)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def run_cache(kind: str, root: Path, entries: int, count: int) -> dict[str, float]:
    """Runs all steps on one cache of `entries` entries."""
    found: dict[str, float] = {}
    root.mkdir()
    for name in ("fill", "hits", "fit", "insert", "open"):
        result = step(kind, root, name, entries, count)
        found |= {key: value for key, value in result.items() if key != "open_seconds" or name == "open"}
    return found


def table(ours: dict[str, float], peer: dict[str, float]) -> None:
    print(f"\n{'measure':36}{'lazyfs_cache':>16}{'diskcache':>16}{'ratio':>9}  required")
    for name, value in ours.items():
        other = peer.get(name)
        ratio = f"{value / other:9.2f}" if other else " " * 9
        required = " ".join(
            f"{part:,}" if isinstance(part, float) else str(part) for part in REQUIRED.get(name, ())
        )
        theirs = f"{other:16,.3f}" if other is not None else " " * 16
        print(f"{name:36}{value:16,.3f}{theirs}{ratio}  {required}")


def trace_table(results: list[traces.Result]) -> None:
    print(f"\n{'trace':18}{'size':>6}   hit ratio by requests / by bytes")
    for start in range(0, len(results), len(POLICIES)):
        row = results[start : start + len(POLICIES)]
        cells = "   ".join(f"{one.policy} {one.requests:.3f} / {one.bytes:.3f}" for one in row)
        print(f"{row[0].trace:18}{row[0].share:6.0%}   {cells}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.cache", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200,000 entries and shorter traces: 2 minutes")
    parser.add_argument("--entries", type=int, help="1,000,000 unless --quick")
    parser.add_argument("--count", type=int, default=50_000, help="gets and puts per measurement")
    parser.add_argument("--directory", help="on the disk to measure (default: a temporary one)")
    parser.add_argument("--json", "--out", dest="out", type=Path, metavar="FILE")
    parser.add_argument("--step", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        kind, root, name, entries, count = options.step
        print(json.dumps(measures.measure(kind, Path(root), name, int(entries), int(count))))
        return
    entries = options.entries or (200_000 if options.quick else 1_000_000)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        base = Path(directory)
        kind = measures.filesystem_kind(base)
        ours = run_cache("lazyfs_cache", base / "large", entries, options.count)
        large = step("lazyfs_cache", base / "large", "evict", entries, 5000)
        peer = run_cache("diskcache", base / "peer", entries, options.count)
        floor = measures.filesystem(base / "files", 10_000)
        (base / "small").mkdir()
        step("lazyfs_cache", base / "small", "fill", 10_000, 0)
        small = step("lazyfs_cache", base / "small", "evict", 10_000, 5000)
    for name in measures.EVICTION:
        ours[name], ours[f"{name}_at_10000"] = large[name], small[name]
        ours[f"{name}_ratio"] = large[name] / small[name]
    policies = traces.compare(400 if options.quick else 1500)
    table(ours, peer)
    print(f"filesystem alone ({kind}), turns (create, rename, unlink) per second:")
    print(f"  {floor['turns_per_second']:,.0f}, {floor['turns_per_cpu_second']:,.0f} of processor time")
    trace_table(policies)
    result = {
        "facts": msgspec.to_builtins(gather(CHECKOUT)),
        "entries": entries,
        "value_bytes": measures.VALUE,
        "lazyfs_cache": ours,
        "diskcache": peer,
        "filesystem": kind,
        "filesystem_alone": floor,
        "required": {name: list(what) for name, what in REQUIRED.items()},
        "traces": [one._asdict() for one in policies],
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
