"""python -m benchmarks.anywhere [--images N] [--results DIR]

Makes three comparisons, with both sides in one run:

- processor time of one and of eight single-threaded Dask workers that convert the same images;
- wall time of one and of eight workers if round trips dominate: 20 small layers in each image, and a registry
  that is 50 ms away;
- one publish into a directory and one into a bucket of a real radosgw: MB/s, and the requests to the bucket.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from benchmarks.facts import gather
from benchmarks.ports import free_port
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.params import Params, Revision
from lazyfs.images.publisher import publish
from lazyfs.repository import lifecycle
from lazyfs.repository.keys import Keys
from lazyfs.store import Store, create_store
from lazyfs.sync.dask_workers import dask_workers
from lazyfs.sync.run import sync
from lazyfs.sync.settings import RegistrySettings, ServiceSettings, Settings
from tests.support.buckets import new_place, open_place
from tests.support.cli import new_repository
from tests.support.dask_cluster import dask_cluster
from tests.support.memory_repository import OPTIONS, signers
from tests.support.oci_images import Built, entry, layer
from tests.support.radosgw import radosgw
from tests.support.registry import RealRegistry, real_registry
from tests.support.s3_faults import S3Faults

RTT_MS = 50
LAYERS = 20
_CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Reads the command line, measures, and writes anywhere.json."""
    parser = argparse.ArgumentParser(prog="benchmarks.anywhere")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--results", type=Path, default=_CHECKOUT / "benchmarks/results", metavar="DIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as name:
        found = {
            "facts": msgspec.to_builtins(gather(_CHECKOUT)),
            "images": options.images,
            "workers": _workers(Path(name), options.images),
            "stores": _stores(Path(name)),
        }
    (options.results / "anywhere.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")


def _workers(directory: Path, images: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with real_registry(directory, accounts_needed=False) as registry:
        base = layer(*[entry(f"base{n}", data=Random(n).randbytes(20_000)) for n in range(100)])
        for number in range(images):
            own = [entry(f"own{n}", data=Random(number * 1000 + n).randbytes(10_000)) for n in range(100)]
            registry.put(Built([base, layer(*own)]), f"team/large{number}", "1")
        few = max(8, images // 2)
        for number in range(few):
            layers = [layer(entry(f"{n}", data=b"%d %d" % (number, n))) for n in range(LAYERS)]
            registry.put(Built(layers), f"team/small{number}", "1")
        for workers in (1, 8):
            place = directory / f"large{workers}"
            found[f"processor_seconds_of_{workers}"] = _run(place, registry.host, "large", images, workers)[0]
        with _delayed(registry) as host:
            for workers in (1, 8):
                place = directory / f"small{workers}"
                found[f"distant_wall_seconds_of_{workers}"] = _run(place, host, "small", few, workers)[1]
    found["processor_ratio"] = found["processor_seconds_of_8"] / found["processor_seconds_of_1"]
    found["speed_ratio"] = found["distant_wall_seconds_of_1"] / found["distant_wall_seconds_of_8"]
    return found


@contextmanager
def _delayed(registry: RealRegistry) -> Iterator[str]:
    """Yields the address of a relay in front of the registry, which adds a round-trip time of 50 ms."""
    import subprocess

    port = free_port()
    command = [sys.executable, "-m", "tools.relay", "--rtt-ms", str(RTT_MS), "--mbit", "1000"]
    command += ["--forward", f"127.0.0.1:{port}={registry.host.replace('localhost', '127.0.0.1')}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_CHECKOUT) as relay:
        assert relay.stdout is not None
        relay.stdout.readline()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            relay.terminate()


def _run(directory: Path, host: str, kind: str, images: int, workers: int) -> tuple[float, float]:
    """Does one run with this number of workers. Returns the workers' processor time and the wall time, in
    seconds."""
    directory.mkdir()
    new_repository(directory)
    lines = "".join(f"  - 'https://registry.example/team/{kind}{n}:1'\n" for n in range(images))
    wishes = directory / "wishes.yaml"
    wishes.write_text(f"version: 1\ninput:\n{lines}")
    settings = Settings(
        ServiceSettings(last_update=False, minutes_per_revision=1000, images_per_revision=1000),
        {"registry.example": RegistrySettings(address=host, plain_http=True, parallel=64)},
    )
    store = str(directory / "store")
    with dask_cluster(directory, workers) as cluster, dask_workers(cluster.address, store) as given:
        assert given is not None
        _warm(cluster.address)
        before = sum(map(_processor_seconds, (worker.pid for worker in cluster.workers)))
        began = time.monotonic()
        report = sync(
            [str(wishes)],
            store,
            executor=given.executor,
            keys=str(directory / "keys"),
            settings=settings,
            status_directory=str(directory / "status"),
        )
        wall = time.monotonic() - began
        used = sum(map(_processor_seconds, (worker.pid for worker in cluster.workers))) - before
    assert report.count("published") == images
    return used, wall


def _warm(address: str) -> None:
    """Makes every worker import lazyfs, as a worker has done that lives for several runs."""
    from distributed import Client

    def load() -> None:
        pass

    with Client(address, set_as_default=False) as client:
        client.run(load)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stores(directory: Path) -> dict[str, Any]:
    """Publishes an image of 200 MB into a directory and into a bucket; returns the figures of both."""
    files = [entry(f"f{n}", data=Random(n).randbytes(n * 20_000)) for n in range(1, 141)]
    source = f"oci:{Built([layer(*files)], how='none').write_layout(directory / 'layout')}"
    size = sum(len(data) for _, data in files)
    found: dict[str, Any] = {"bytes": size}
    place = create_store(str(directory / "one"))
    found["directory_mb_per_second"] = size / 1e6 / _publish(place, source)[0]
    with radosgw(directory) as server, S3Faults(server) as counter:
        bucket = new_place(server)
        found["bucket_mb_per_second"] = size / 1e6 / _publish(open_place(server, bucket), source)[0]
        counted = open_place(server, new_place(server), counter.url)
        _, objects = _publish(counted, source, counter.forget)
        found["requests"] = dict(counter.counts())
        found["objects"] = objects
    return found


def _publish(store: Store, source: str, begin: Any = lambda: None) -> tuple[float, int]:
    """Publishes into a new repository. Returns the duration in seconds, and the number of objects."""
    root, publisher, stamper = signers()
    new = Revision("bench.example.org", 1, 0, ObjectRef(Digest(b""), 0), Params())
    lifecycle.begin(store, new, [root], 1, publisher, stamper, datetime.now(UTC), 3650)
    begin()
    options = replace(OPTIONS, place="r.example/app:1", workers=None)
    began = time.monotonic()
    report = publish(store, Keys([publisher, stamper]), [source], options, lambda: datetime.now(UTC))
    return time.monotonic() - began, report.new_objects


if __name__ == "__main__":
    main()
