"""One and eight single-threaded Dask workers that convert the same images."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.ports import free_port
from lazyfs.sync.dask_workers import dask_workers
from lazyfs.sync.run import sync
from lazyfs.sync.settings import RegistrySettings, ServiceSettings, Settings
from tests.support.cli import new_repository
from tests.support.dask_cluster import dask_cluster
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import RealRegistry, real_registry

RTT_MS = 50
LAYERS = 20
WORKERS = (1, 8)
PROCESSOR_BOUND = 1.1
SPEED_BOUND = 6.0
IDLE_SECONDS = 4.0
"""Seconds for which workers without work are measured."""
_CHECKOUT = Path(__file__).parents[2]


def measure_workers(directory: Path, images: int, rounds: int) -> dict[str, Any]:
    """Converts `images` large images, and then at least eight images of 20 small layers from a distant
    registry, with one worker and with eight in turn. Returns the medians and their ratios."""
    few = max(8, images // 2)
    large: dict[int, list[_Run]] = {workers: [] for workers in WORKERS}
    small: dict[int, list[_Run]] = {workers: [] for workers in WORKERS}
    with real_registry(directory, accounts_needed=False) as registry:
        _put(registry, images, few)
        for number in range(rounds):
            for workers in WORKERS:
                place = directory / f"large{number}-{workers}"
                large[workers].append(_run(place, registry.host, "large", images, workers))
        with _delayed(registry) as host:
            for number in range(rounds):
                for workers in WORKERS:
                    place = directory / f"small{number}-{workers}"
                    small[workers].append(_run(place, host, "small", few, workers))
    found: dict[str, Any] = {"images": images, "distant_images": few, "rounds": rounds}
    one, eight = (_median(large[workers]) for workers in WORKERS)
    found |= {"processor_seconds_of_1": one.processor, "processor_seconds_of_8": eight.processor}
    found |= {"idle_seconds_of_1": one.idle, "idle_seconds_of_8": eight.idle}
    found |= {"processor_ratio": eight.processor / one.processor}
    found |= {"busy_ratio": (eight.processor - eight.idle) / (one.processor - one.idle)}
    one, eight = (_median(small[workers]) for workers in WORKERS)
    found |= {"distant_seconds_of_1": one.wall, "distant_seconds_of_8": eight.wall}
    found |= {"distant_machine_of_1": one.machine, "distant_machine_of_8": eight.machine}
    found |= {"speed_ratio": one.wall / eight.wall, "cores": os.cpu_count()}
    return found


def good(found: dict[str, Any]) -> bool:
    """Returns True if the figures are within their bounds."""
    return bool(found["processor_ratio"] <= PROCESSOR_BOUND and found["speed_ratio"] >= SPEED_BOUND)


def lines(found: dict[str, Any]) -> list[str]:
    """Returns the lines of a table of the figures."""
    return [
        f"{found['images']} images of 10 MB that share a layer of 2 MB; {found['distant_images']} images of "
        f"{LAYERS} small layers, registry {RTT_MS} ms away; medians of {found['rounds']}.",
        "",
        "| single-threaded Dask workers | 1 | 8 | ratio | bound |",
        "|---|---|---|---|---|",
        f"| processor seconds, registry at hand | {found['processor_seconds_of_1']:.1f} "
        f"| {found['processor_seconds_of_8']:.1f} | {found['processor_ratio']:.2f} | <= {PROCESSOR_BOUND} |",
        f"| the same without what idle workers take in that time "
        f"| {found['processor_seconds_of_1'] - found['idle_seconds_of_1']:.1f} "
        f"| {found['processor_seconds_of_8'] - found['idle_seconds_of_8']:.1f} "
        f"| {found['busy_ratio']:.2f} | |",
        f"| seconds, distant registry | {found['distant_seconds_of_1']:.1f} "
        f"| {found['distant_seconds_of_8']:.1f} | {found['speed_ratio']:.1f} times as fast "
        f"| >= {SPEED_BOUND:.0f} |",
        f"| busy share of this machine's {found['cores']} cores meanwhile "
        f"| {found['distant_machine_of_1']:.0%} | {found['distant_machine_of_8']:.0%} | | |",
    ]


def _put(registry: RealRegistry, images: int, few: int) -> None:
    base = layer(*[entry(f"base{n}", data=Random(n).randbytes(20_000)) for n in range(100)])
    for number in range(images):
        own = [entry(f"own{n}", data=Random(number * 1000 + n).randbytes(40_000)) for n in range(250)]
        registry.put(Built([base, layer(*own)]), f"team/large{number}", "1")
    registry.put(Built([layer(entry("own", data=b"warm"))]), "team/warm", "1")
    for number in range(few):
        layers = [layer(entry(f"{n}", data=b"%d %d" % (number, n))) for n in range(LAYERS)]
        registry.put(Built(layers), f"team/small{number}", "1")


@contextmanager
def _delayed(registry: RealRegistry) -> Iterator[str]:
    """Yields the address of a relay in front of the registry, which adds a round-trip time of 50 ms."""
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


class _Run(NamedTuple):
    """The figures of one run, in seconds."""

    processor: float
    """The workers' processor time."""
    idle: float
    """The processor time that the same workers take in the run's time if they have no work."""
    wall: float
    machine: float
    """The busy share of all cores, 0 to 1: workers, scheduler, registry and relay."""


def _median(runs: list[_Run]) -> _Run:
    return _Run(*(statistics.median(column) for column in zip(*runs, strict=True)))


def _run(directory: Path, host: str, kind: str, images: int, workers: int) -> _Run:
    """Does one run with this number of workers."""
    directory.mkdir()
    new_repository(directory)
    names = [f"{kind}{number}" for number in range(images)]
    store = str(directory / "store")
    with dask_cluster(directory, workers) as cluster, dask_workers(cluster.address, store) as given:
        assert given is not None
        _warm(cluster.address, directory, host)
        pids = [worker.pid for worker in cluster.workers]
        before = sum(map(_processor_seconds, pids))
        time.sleep(IDLE_SECONDS)
        idle = (sum(map(_processor_seconds, pids)) - before) / IDLE_SECONDS
        before, busy = sum(map(_processor_seconds, pids)), _busy_seconds()
        began = time.monotonic()
        _sync(directory, host, names, given.executor)
        seconds = time.monotonic() - began
        used = sum(map(_processor_seconds, pids)) - before
        share = (_busy_seconds() - busy) / seconds / (os.cpu_count() or 1)
    shutil.rmtree(directory)
    return _Run(used, idle * seconds, seconds, share)


def _sync(directory: Path, host: str, names: list[str], executor: Executor | None) -> None:
    """Publishes these images of the registry at `host` into the repository in a directory."""
    wished = "".join(f"  - 'https://registry.example/team/{name}:1'\n" for name in names)
    wishes = directory / "wishes.yaml"
    wishes.write_text(f"version: 1\ninput:\n{wished}")
    settings = Settings(
        ServiceSettings(last_update=False, minutes_per_revision=1000, images_per_revision=1000),
        {"registry.example": RegistrySettings(address=host, plain_http=True, parallel=64)},
    )
    report = sync(
        [str(wishes)],
        str(directory / "store"),
        executor=executor,
        keys=str(directory / "keys"),
        settings=settings,
        status_directory=str(directory / "status"),
    )
    assert report.count("published") == len(names)


def _warm(address: str, directory: Path, host: str) -> None:
    """Has every worker read one image into a repository of its own. Afterwards each worker has imported all
    modules, like a worker that already served earlier runs."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.run(_read_one, directory, host)


def _read_one(directory: Path, host: str) -> None:
    own = directory / f"warm{os.getpid()}"
    own.mkdir()
    new_repository(own)
    _sync(own, host, ["warm"], None)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _busy_seconds() -> float:
    """Returns the seconds that all cores together have been busy since the machine started."""
    user, nice, system, _idle, _wait, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + sum(interrupts[:2])) / os.sysconf("SC_CLK_TCK")
