"""Records cold starts of the benchmark images over each way of storing them, and the processor time of nginx
and squid.

The line has a round trip of 50 ms, so that the log of the origin tells which requests were under way
together.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from benchmarks.facts import gather
from benchmarks.ports import free_ports
from benchmarks.site import servers, starts
from benchmarks.site.starts import Pulled, Recorded, Recording, Service
from benchmarks.startup import origin, services
from benchmarks.startup.images import BenchmarkImage, analysis_image, kept_directory, shell_image
from benchmarks.startup.services import Line
from benchmarks.startup.sides import Lazyfs, Place
from benchmarks.startup.start import run_start
from benchmarks.startup.workloads import ANALYSIS, HELLO, SHELL, Workload
from lazyfs.core.params import Params
from lazyfs.repository import lifecycle

_CHECKOUT: Final = Path(__file__).parents[2]
_LINE: Final = Line(50, 1000)
_GAP: Final = 0.02
"""Seconds without a request that end a wave: less than the round trip, more than a burst takes."""
_REQUESTS: Final = 2000
"""Requests of each size for the processor time of a server."""
_SIZES: Final = (4 << 10, 512 << 10)
ONE_FILE: Final = Params(pack_files=0)


def record() -> Recording:
    """Publishes the images, starts their programs, and measures the servers. Takes ten minutes."""
    images = [shell_image(), analysis_image()]
    found = []
    with tempfile.TemporaryDirectory(prefix="lazyfs-site-") as work:
        Path(work).chmod(0o755)
        root = Path(work) / "files"
        root.mkdir()
        pulled = [_pulled(image, Path(work)) for image in images]
        squid, nginx = _service(Path(work))
        for variant, store, workloads in _stores(images, root, Path(work)):
            for workload in workloads:
                found.append(_start(variant, workload, store, Path(work)))
                print(variant, workload.name, len(found[-1].fetches), file=sys.stderr, flush=True)
    return Recording(gather(_CHECKOUT).commit, found, pulled, squid, nginx)


def _stores(
    images: list[BenchmarkImage], root: Path, work: Path
) -> Iterator[tuple[str, Path, tuple[Workload, ...]]]:
    """Makes the stores. Yields each with its variant and the programs to start from it. HELLO and ANALYSIS
    start from one image, so that a profile of either needs a store of its own."""
    files, keys = root / "files", work / "keys-files"
    lifecycle.init(str(files), origin.NAME, datetime.now(UTC), keys=str(keys), params=ONE_FILE)
    for image in images:
        origin.publish_image(image, files, keys)
    for number in range(origin.OTHERS):
        origin.publish_image(images[0], files, keys, f"other{number:02}")
    yield starts.FILES, files, (SHELL, HELLO, ANALYSIS)
    origin.publish(images, root, work / "keys")
    yield starts.PACKS, root / "store", (SHELL, HELLO, ANALYSIS)
    origin.profile([SHELL, ANALYSIS], root, work, work / "keys")
    yield starts.PROFILES, root / "profiled-store", (SHELL, ANALYSIS)
    subprocess.run(["cp", "-al", str(root / "store"), str(root / "second")], check=True)
    origin.profile([HELLO], root, work, work / "keys", store_name="second")
    yield starts.PROFILES, root / "profiled-second", (HELLO,)


def _start(variant: str, workload: Workload, store: Path, work: Path) -> Recorded:
    """Makes a cold start, and the same one again from the warm cache."""
    with tempfile.TemporaryDirectory(prefix="start-", dir=work) as name, ExitStack() as stack:
        place, (port,) = Path(name), free_ports(1)
        place.chmod(0o755)
        web = stack.enter_context(servers.nginx(store, place, "127.0.0.1", port))
        relayed = stack.enter_context(services.relay(_LINE, [port], place))
        side = Lazyfs(variant, str(store / "metadata/1.root.json"), store=".")
        worker = place / "worker"
        worker.mkdir()
        at = Place(str(worker), workload.image, f"127.0.0.1:{relayed.port(port)}")
        cold = run_start(side, workload, at, relayed)
        log = starts.read_log(web.text())
        warm = run_start(side, workload, at, relayed)
        plain = {one.name: plain_size(store, one.name) for one in log if one.name}
        subprocess.run(["rm", "-rf", str(worker)], check=True)
    return Recorded(
        workload.name,
        variant,
        [msgspec.structs.replace(one, name=one.name[:12]) for one in starts.fetches(log, plain, _GAP)],
        sum(not one.name for one in log),
        cold.cpu_seconds,
        warm.cpu_seconds,
    )


def plain_size(store: Path, name: str) -> int:
    """Returns the plaintext size of a stored object, as its frame's header says."""
    with (store / "data" / name[:2] / name[2:]).open("rb") as file:
        return zstandard.frame_content_size(file.read(32))


def _pulled(image: BenchmarkImage, work: Path) -> Pulled:
    apptainer = kept_directory() / "apptainer"
    subprocess.run([_CHECKOUT / "tools/get-apptainer", apptainer], check=True, stdout=subprocess.DEVNULL)
    origin.build_sif(image, work, str(apptainer / "usr/bin/apptainer"))
    size = (work / f"sif/{image.name}.sif").stat().st_size
    return Pulled(image.name, image.compressed_bytes, image.layers, size, image.unpacked_bytes)


def _service(work: Path) -> tuple[Service, Service]:
    """Returns the processor time of squid's hits and of nginx."""
    store = work / "sized"
    data = store / "data/ab"
    data.mkdir(parents=True)
    names = [f"{size:062x}" for size in _SIZES]
    for name, size in zip(names, _SIZES, strict=True):
        (data / name).write_bytes(bytes(size))
    one, two = free_ports(2)
    with (
        servers.nginx(store, work, "127.0.0.1", one) as web,
        servers.squid(work / "squid", "127.0.0.1", two) as proxy,
    ):
        measured = []
        for server, over in ((proxy, proxy.url), (web, None)):
            seconds = []
            for name in names:
                urls = [f"{web.url}/data/ab/{name}"] * _REQUESTS
                servers.curl(urls[:10], over)
                before = server.cpu()
                servers.curl(urls, over)
                seconds.append((server.cpu() - before) / _REQUESTS)
            byte = max(seconds[1] - seconds[0], 0.0) / (_SIZES[1] - _SIZES[0])
            measured.append(Service(seconds[0] - byte * _SIZES[0], byte))
    return measured[0], measured[1]
