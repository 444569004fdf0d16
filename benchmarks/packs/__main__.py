"""The choice of the limits of packs, by the cost of a cold start of the analysis image.

    python -m benchmarks.packs [--quick] [--json FILE]

For a few limits, publishes the image and starts the analysis with an empty cache, which gives real requests,
waits and bytes. For many more limits, makes the packs with the publisher's code, and replays the trace of
such a start on them. Counts do not depend on the machine's speed; the cost on a line is computed from them.
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

from benchmarks.facts import gather
from benchmarks.packs import simulation
from benchmarks.packs.report import document
from benchmarks.packs.result import Replay, Result, Start
from benchmarks.startup import origin, services
from benchmarks.startup.images import TAG, BenchmarkImage, analysis_image
from benchmarks.startup.services import Line
from benchmarks.startup.sides import REGISTRY, Lazyfs, Place, bubblewrap
from benchmarks.startup.start import run_start
from benchmarks.startup.workloads import ANALYSIS
from lazyfs.core import codec
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.params import Params
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.repository import lifecycle

_CHECKOUT: Final = Path(__file__).parents[2]
KIB: Final = 1 << 10
BEFORE_PACKS: Final = 3
"""Compression level of the store without packs. The stores with packs are compared with that store."""
RANDOM: Final = 200
"""The number of small files that are read at random."""


def limits(files: int, target: int, least: int = 0, most: int = 0) -> Params:
    """Returns parameters that put files of up to `files` KiB into packs of about `target` KiB. Packs have
    `least` to `most` KiB, by default a quarter to twice the target. If `files` is 0, there are no packs."""
    return Params(
        pack_files=files * KIB,
        pack_least=(least or target // 4) * KIB,
        pack_target=target * KIB,
        pack_most=(most or max(2 * target, files)) * KIB,
    ).check()


REAL: Final = (limits(0, 1024), limits(256, 512), limits(256, 1024))
SIMULATED: Final = (
    limits(0, 1024),
    *(limits(256, target) for target in (512, 1024, 2048)),
    *(limits(1024, target) for target in (768, 1024, 2048)),
    limits(1024, 1024, 256, 1280),
    limits(1024, 896, 512, 1024),
    limits(1024, 768, 384, 1024),
    limits(768, 640, 384, 768),
    limits(512, 384, 256, 512),
)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packs")
    parser.add_argument("--quick", action="store_true", help="no packs and the default limits only")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    image, facts = analysis_image(), gather(_CHECKOUT)
    work = Path(tempfile.mkdtemp(prefix="lazyfs-packs-"))
    work.chmod(0o755)
    try:
        real = [Params()] if options.quick else list(dict.fromkeys((*REAL, Params())))
        starts = []
        for params in real:
            starts.append(_start(image, params, work))
            print(starts[-1], file=sys.stderr, flush=True)
        simulated = (SIMULATED[0], Params()) if options.quick else SIMULATED
        replays = _replays(image, list(dict.fromkeys((*simulated, Params()))), work)
    finally:
        shutil.rmtree(work)
    flags = [flag for flag in sys.argv[1:] if flag == "--quick"]
    command = shlex.join(["python", "-m", "benchmarks.packs", *flags])
    result = Result("packs", command, facts, image.without_place(), starts, replays)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    print(document(result))


def _start(image: BenchmarkImage, params: Params, work: Path) -> Start:
    """Publishes the image with these limits and starts the analysis. Then starts it again, to record a
    trace."""
    store, keys, worker = work / "files/store", work / "keys", work / "worker"
    store.parent.mkdir()
    lifecycle.init(str(store), origin.NAME, datetime.now(UTC), keys=str(keys), params=params)
    origin.publish_image(image, store, keys)
    objects = [path.stat().st_size for path in (store / "data").rglob("*") if path.is_file()]
    worker.mkdir()
    with ExitStack() as stack:
        nginx = stack.enter_context(services.nginx(store.parent, work))
        relayed = stack.enter_context(services.relay(Line(0, 1000), [nginx], work))
        side = Lazyfs("lazyfs", str(store / "metadata/1.root.json"))
        place = Place(str(worker), image.name, f"127.0.0.1:{relayed.port(nginx)}")
        start = run_start(side, ANALYSIS, place, relayed)
    _trace(image, store, work)
    for path in (store.parent, keys, worker):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    assert start.waits is not None
    return Start(
        params=params,
        requests=start.requests,
        waits=start.waits,
        bytes_from_origin=start.bytes_from_origin,
        disk_bytes=start.disk_bytes,
        cpu_seconds=start.cpu_seconds,
        store_files=len(objects),
        store_bytes=sum(objects),
    )


def _trace(image: BenchmarkImage, store: Path, work: Path) -> None:
    mountpoint, trace = work / "mnt", work / "trace"
    mountpoint.mkdir(exist_ok=True)
    trace.unlink(missing_ok=True)
    lazyfs = (sys.executable, "-m", "lazyfs")
    options = ("--cache", str(work / "worker/traced"), "--trace", str(trace))
    subprocess.run([*lazyfs, "mount", str(store), str(mountpoint), *options], check=True, capture_output=True)
    try:
        step = bubblewrap(f"{mountpoint}/{REGISTRY}/{image.name}:{TAG}", ANALYSIS.command)
        subprocess.run(step.argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    finally:
        subprocess.run([*lazyfs, "umount", str(mountpoint)], check=True, capture_output=True)


def _replays(image: BenchmarkImage, settings: list[Params], work: Path) -> list[Replay]:
    options = ImageOptions(Platform("linux", "amd64"))
    reads = simulation.trace_of(work / "trace")
    found, contents = [], set()
    with (
        (work / "spool").open("w+b") as file,
        open_image(f"oci:{image.layout}:{TAG}", options, _unknown) as one,
    ):
        layers = simulation.Layers(one, file)
        for params in settings:
            # what af0a6fc publishes: one object a file, at the level that was the default
            level = codec.LEVEL if params.pack_files else BEFORE_PACKS
            root, stored = layers.ingested(params, level)
            contents.add(simulation.names_of(root))
            touches = simulation.touched(reads, root, stored, layers.chunk)
            once, chance = simulation.first(touches), simulation.random_reads(root, stored, RANDOM)
            row = Replay(
                params=params,
                packs=len(stored.sizes),
                small_bytes=sum(stored.sizes.values()),
                requests=len(once),
                waits=simulation.waits(reads, root, once),
                bytes=sum(touch.stored for touch in once),
                cached=[
                    simulation.refetched(touches, image.unpacked_bytes * share // 100)
                    for share in (5, 10, 25)
                ],
                random_requests=len(chance),
                random_bytes=sum(touch.stored for touch in chance),
            )
            found.append(row)
            print(row, file=sys.stderr, flush=True)
    if len(contents) != 1:
        raise RuntimeError("the limits changed what the image holds")
    return found


def _unknown(_place: str, _digest: bytes) -> None:
    """A look-up of known configs that finds none."""


if __name__ == "__main__":
    main()
