"""`python -m benchmarks.anywhere [--quick] [--images N] [--rounds N] [--json FILE]`: as root.

Needs docker-registry, radosgw, ceph-mon and ceph-osd.

Makes three comparisons, with both sides in turn in one run:

- processor time of one and of eight single-threaded Dask workers that convert the same images;
- time of one and of eight workers if round trips dominate: 20 small layers in each image, and a registry
  that is 50 ms away;
- publishing into a directory and into a bucket of a real radosgw: MB/s, and the requests to the bucket.

The exit code is 3 if a bound is exceeded: 1.1 times the processor time, or six times the speed.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.anywhere import stores, workers
from benchmarks.facts import gather

_CHECKOUT = Path(__file__).parents[2]


def main() -> int:
    """Reads the command line, measures, and prints the tables. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.anywhere")
    parser.add_argument("--quick", action="store_true", help="16 images, 20 MB, one round")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    missing = [tool for tool in ("docker-registry", "radosgw", "ceph-mon") if not shutil.which(tool)]
    if missing:
        print(f"needs these programs: {', '.join(missing)}", file=sys.stderr)
        return 2
    images, rounds, megabytes = (16, 1, 20) if options.quick else (options.images, options.rounds, 200)
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as name:
        converted = workers.measure_workers(Path(name), images, rounds)
        published = stores.measure_stores(Path(name), megabytes, 10, rounds)
    print("\n".join([*workers.lines(converted), "", *stores.lines(published)]))
    if options.json:
        facts = msgspec.to_builtins(gather(_CHECKOUT))
        found = {"facts": facts, "workers": converted, "stores": published}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0 if workers.good(converted) else BOUND_MISSED


if __name__ == "__main__":
    sys.exit(main())
