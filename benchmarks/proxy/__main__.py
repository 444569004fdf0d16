"""Counts what a site's proxy fetches and stores when two workers start the analysis, each with an empty
cache.

    python -m benchmarks.proxy [--beside CHECKOUT] [--json FILE]

Needs root, squid and nginx. Each revision has its own store and an empty squid. The result has only counts,
so the machine's speed does not matter. The exit code is BOUND_MISSED if the second worker costs the origin
more than metadata.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import Facts, gather
from benchmarks.startup import origin, services
from benchmarks.startup.bench import checkout
from benchmarks.startup.images import BenchmarkImage, analysis_image
from benchmarks.startup.installed import installed
from benchmarks.startup.services import Line
from benchmarks.startup.sides import Lazyfs, Place
from benchmarks.startup.start import run_start
from benchmarks.startup.workloads import ANALYSIS

_CHECKOUT: Final = Path(__file__).parents[2]
METADATA: Final = 10
"""The largest number of requests to the origin for a second worker: metadata older than a minute, and no
objects."""
_LINE: Final = Line(0, 1000)
_STORED: Final = re.compile(r"^\s*(\d+) StoreEntries$", re.MULTILINE)


class Row(msgspec.Struct, frozen=True):
    """One cold start through the proxy."""

    revision: str
    """Label of the revision; empty for this checkout."""
    worker: str
    proxy_requests: int
    """Requests that the proxy received."""
    proxy_objects: int
    """Objects that the proxy stored because of these requests."""
    origin_requests: int
    bytes_from_origin: int


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    rows: list[Row]


def stored(port: int) -> int:
    """Returns the number of objects that a squid holds."""
    url = f"http://127.0.0.1:{port}/squid-internal-mgr/info"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = _STORED.search(answer.read().decode())
    if found is None:
        raise RuntimeError("squid tells no number of StoreEntries")
    return int(found[1])


def measure(revision: str, python: str, image: BenchmarkImage, work: Path) -> list[Row]:
    """Publishes the image and starts it on two workers, one after the other."""
    files = work / "files"
    files.mkdir()
    trust = origin.publish([image], files, work / "keys", python=python)
    rows = []
    with ExitStack() as stack:
        made = {name: work / name for name in ("nginx", "squid", "before", "behind")}
        for directory in made.values():
            directory.mkdir(mode=0o755)
        web = stack.enter_context(services.nginx(files, made["nginx"]))
        squid = stack.enter_context(services.squid(made["squid"]))
        before = stack.enter_context(services.relay(_LINE, [squid], made["before"]))
        behind = stack.enter_context(services.relay(_LINE, [web], made["behind"]))
        proxy = f"http://127.0.0.1:{before.port(squid)}"
        side = Lazyfs("lazyfs", str(trust), proxy=proxy, python=python)
        for worker in ("first", "second"):
            directory = work / worker
            directory.mkdir()
            held, asked = stored(squid), behind.counts()
            place = Place(str(directory), image.name, f"127.0.0.1:{behind.port(web)}")
            start = run_start(side, ANALYSIS, place, before)
            passed = behind.counts().minus(asked)
            rows.append(
                Row(
                    revision=revision,
                    worker=worker,
                    proxy_requests=start.requests,
                    proxy_objects=stored(squid) - held,
                    origin_requests=passed.requests,
                    bytes_from_origin=passed.bytes_down,
                )
            )
            print(rows[-1], file=sys.stderr, flush=True)
            subprocess.run(["rm", "-rf", str(directory)], check=True)
    return rows


def document(result: Result) -> str:
    """Returns the result as Markdown."""
    head = (
        f"Command: `{result.command}`, at commit {result.facts.commit}.\n\n"
        "| revision | worker | requests at the proxy | objects that it stored | requests at the origin "
        "| MB from the origin |\n|---|---|---:|---:|---:|---:|\n"
    )
    return head + "".join(
        f"| {row.revision or 'this'} | {row.worker} | {row.proxy_requests:,} | {row.proxy_objects:,} "
        f"| {row.origin_requests:,} | {row.bytes_from_origin / 1e6:.1f} |\n"
        for row in result.rows
    )


def main() -> int:
    """Reads the command line, measures and prints. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy")
    parser.add_argument("--quick", action="store_true", help="changes nothing: it takes two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another revision too")
    options = parser.parse_args()
    image = analysis_image()
    places = [("", _CHECKOUT), *([checkout(options.beside.absolute())] if options.beside else [])]
    rows = []
    for label, directory in places:
        with tempfile.TemporaryDirectory(prefix="lazyfs-proxy-") as work:
            Path(work).chmod(0o755)  # squid enters it as its own user
            python = installed(directory, Path(work) / "installed")
            rows += measure(label, python, image, Path(work))
    command = ["python", "-m", "benchmarks.proxy", *(["--beside=CHECKOUT"] if options.beside else [])]
    result = Result("proxy", shlex.join(command), gather(_CHECKOUT), image.without_place(), rows)
    print(document(result))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    second = [row for row in rows if row.worker == "second"]
    return BOUND_MISSED if any(row.origin_requests > METADATA for row in second) else 0


if __name__ == "__main__":
    sys.exit(main())
