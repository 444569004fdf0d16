"""The choice of chunk size and catalog size by the requests and bytes of a cold start of the analysis image.

    python -m benchmarks.chunks [--json FILE]

For each setting, publishes the image into a new repository, starts the analysis with an empty cache, and
counts requests and bytes at the origin. Counts do not depend on the machine's speed. From them follows an
upper bound on the time over a line: the bytes at line rate, and one round trip for each request.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.facts import Facts, gather
from benchmarks.startup import origin, services
from benchmarks.startup.images import BenchmarkImage, analysis_image
from benchmarks.startup.services import Line
from benchmarks.startup.sides import Lazyfs, Place
from benchmarks.startup.start import run_start
from benchmarks.startup.workloads import WORKLOADS
from lazyfs.core.params import Params
from lazyfs.repository import lifecycle

_CHECKOUT: Final = Path(__file__).parents[2]
CHUNK_SHIFTS: Final = (18, 19, 20, 21, 22)
CATALOG_ENTRIES: Final = (512, 2048, 8192, 32768)


class Row(msgspec.Struct, frozen=True):
    """The counts of one program at one setting."""

    setting: str
    workload: str
    chunk_kib: int
    catalog_entries: int
    requests: int
    bytes_from_origin: int
    disk_bytes: int
    seconds: float
    """Seconds over this machine's loopback, for information only: the choice is made by counts."""
    store_objects: int
    store_bytes: int


class Result(msgspec.Struct):
    """The result of one run."""

    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    rows: list[Row]


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks")
    parser.add_argument("--quick", action="store_true", help="chunks of 256 KiB, 1 MiB and 4 MiB only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    default = Params()
    settings = [msgspec.structs.replace(default, chunk_shift=shift) for shift in CHUNK_SHIFTS]
    if options.quick:
        settings = settings[::2]
    else:
        settings += [msgspec.structs.replace(default, catalog_entries=entries) for entries in CATALOG_ENTRIES]
    image, facts = analysis_image(), gather(_CHECKOUT)
    rows: list[Row] = []
    for params in dict.fromkeys(settings):
        rows += _measure(image, params)
        print(rows[-1], file=sys.stderr, flush=True)
    flags = [flag for flag in sys.argv[1:] if flag == "--quick"]
    command = shlex.join(["python", "-m", "benchmarks.chunks", *flags])
    result = Result("chunks", command, facts, image.without_place(), rows)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    print(document(result))


def _measure(image: BenchmarkImage, params: Params) -> list[Row]:
    work = Path(tempfile.mkdtemp(prefix="lazyfs-chunks-"))
    work.chmod(0o755)
    try:
        store, keys = work / "files/store", work / "keys"
        store.parent.mkdir()
        lifecycle.init(str(store), origin.NAME, datetime.now(UTC), keys=str(keys), params=params)
        origin.publish_image(image, store, keys)
        objects = [path.stat().st_size for path in (store / "data").rglob("*") if path.is_file()]
        with ExitStack() as stack:
            nginx = stack.enter_context(services.nginx(store.parent, work))
            relayed = stack.enter_context(services.relay(Line(0, 1000), [nginx], work))
            side = Lazyfs("lazyfs", str(store / "metadata/1.root.json"))
            rows = []
            for name in ("hello", "analysis"):
                directory = work / "worker"
                directory.mkdir()
                place = Place(str(directory), image.name, f"127.0.0.1:{relayed.port(nginx)}")
                start = run_start(side, WORKLOADS[name], place, relayed)
                subprocess.run(["rm", "-rf", str(directory)], check=True)
                row = Row(
                    setting=f"{(1 << params.chunk_shift) >> 10} KiB chunks, {params.catalog_entries} entries",
                    workload=name,
                    chunk_kib=(1 << params.chunk_shift) >> 10,
                    catalog_entries=params.catalog_entries,
                    requests=start.requests,
                    bytes_from_origin=start.bytes_from_origin,
                    disk_bytes=start.disk_bytes,
                    seconds=start.seconds,
                    store_objects=len(objects),
                    store_bytes=sum(objects),
                )
                rows.append(row)
            return rows
    finally:
        shutil.rmtree(work)


def document(result: Result) -> str:
    """Returns the result as Markdown."""
    head = (
        f"Command: `{result.command}`, at commit {result.facts.commit}. "
        f"Image: {result.image.entries:,} entries, "
        f"{result.image.unpacked_bytes / 1e6:,.0f} MB.\n\n"
        "| chunk | catalog entries | program | requests | MB fetched "
        "| requests x 50 ms + MB at 100 Mbit/s, s | MB on disk | objects in the store | store, MB |\n"
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|\n"
    )
    lines = []
    for row in result.rows:
        cost = row.requests * 0.05 + row.bytes_from_origin * 8 / 1e8
        lines.append(
            f"| {row.chunk_kib} KiB | {row.catalog_entries:,} | {row.workload} | {row.requests:,} "
            f"| {row.bytes_from_origin / 1e6:.2f} | {cost:.1f} | {row.disk_bytes / 1e6:,.1f} "
            f"| {row.store_objects:,} | {row.store_bytes / 1e6:,.1f} |\n"
        )
    return head + "".join(lines)


if __name__ == "__main__":
    main()
