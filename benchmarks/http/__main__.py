"""CPU and wall time of one request, directly to nginx and through squid, in one run.

    python -m benchmarks.http [--quick] [--json FILE]

Needs nginx and squid. The clients take turns in short batches, so that a disturbance affects all of them.
Figures are medians over the batches. CPU time is that of this process alone, without the servers.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.facts import Facts, gather
from benchmarks.http.sides import SIDES, Side
from tests.support.nginx import NginxOrigin
from tests.support.squid import Squid

CHECKOUT = Path(__file__).resolve().parents[2]
SIZES = (4 << 10, 64 << 10, 1 << 20)


class Row(msgspec.Struct, frozen=True):
    """One client that fetches the same object again and again."""

    way: str
    """`nginx` for direct requests, `squid` for requests through the proxy."""
    size: int
    side: str
    cpu_us: float
    """CPU time of this process for one request in microseconds: median over batches."""
    wall_us: float
    batches: int
    batch: int
    """Number of requests in each batch."""


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    rows: list[Row]


def measure(way: str, url: str, proxy: str | None, size: int, batches: int, batch: int) -> list[Row]:
    """Measures all clients on an object of this size."""
    sides: dict[str, Side] = {name: make() for name, make in SIDES.items()}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(batches + 1):
        for name, side in sides.items():
            began, used = time.perf_counter(), time.process_time()
            for _ in range(batch):
                assert len(side.get(url, proxy)) == size
            if turn:  # the first turn connects and warms the caches
                cpu[name].append((time.process_time() - used) / batch * 1e6)
                wall[name].append((time.perf_counter() - began) / batch * 1e6)
    return [
        Row(way, size, name, statistics.median(cpu[name]), statistics.median(wall[name]), batches, batch)
        for name in sides
    ]


def table(rows: list[Row]) -> str:
    """Returns a table of the CPU time of each client, and its ratio to pycurl's."""
    lines = [f"{'way':8}{'bytes':>9}  {'side':18}{'CPU us':>9}{'of pycurl':>11}{'wall us':>9}{'MB/s':>8}"]
    for row in rows:
        peer = next(r for r in rows if (r.way, r.size, r.side) == (row.way, row.size, "pycurl"))
        lines.append(
            f"{row.way:8}{row.size:9}  {row.side:18}{row.cpu_us:9.0f}{row.cpu_us / peer.cpu_us:10.1f}x"
            f"{row.wall_us:9.0f}{row.size / row.wall_us:8.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http")
    parser.add_argument("--quick", action="store_true", help="fewer batches: half a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    options = parser.parse_args()
    batches = 7 if options.quick else 31
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lazyfs-http-") as work:
        store = Path(work)
        store.chmod(0o755)
        folder = store / "data" / "aa"
        folder.mkdir(parents=True)
        paths = {}
        for number, size in enumerate(SIZES):
            name = f"{number:062x}"
            (folder / name).write_bytes(random.Random(size).randbytes(size))
            paths[size] = f"/data/aa/{name}"
        with NginxOrigin(store) as origin, Squid() as squid:
            for size in SIZES:
                batch = max(20, min(200, (16 << 20) // size))
                for way, proxy in (("nginx", None), ("squid", squid.url)):
                    rows += measure(way, origin.url + paths[size], proxy, size, batches, batch)
    print(table(rows))
    if options.json:
        command = "python -m benchmarks.http" + (" --quick" if options.quick else "")
        result = Result("http", command, gather(CHECKOUT), rows)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


if __name__ == "__main__":
    main()
