"""The scaled-down day: sixteen real mounts behind two real squids and nginx, and the same day simulated.

Each image is started once from a mount of its own straight at the origin, before and after the night: this
gives the simulation its objects, as the recorded starts do for the large site. Nothing else is measured.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.ports import free_ports
from benchmarks.site import images, networks, servers, small_images, starts
from benchmarks.site.clock import Clock
from benchmarks.site.images import Program, Units
from benchmarks.site.record import plain_size
from benchmarks.site.result import Counted, Validation
from benchmarks.site.servers import LoggedServer
from benchmarks.site.small_images import IMAGES, lazyfs, place, read_files
from benchmarks.site.starts import Recorded, Service
from benchmarks.site.tiers import Origin, Proxy, Settings
from benchmarks.site.worker import Site, Worker

MOUNTS: Final = 16
_AT_ONCE: Final = 4
"""Workers that start something at one time."""
_SPACING: Final = 10.0
"""Simulated seconds between two starts."""
_SERVICE: Final = Service(0.0001, 1e-9)
_NEWS_SECONDS: Final = 120.0
"""Seconds in which a mount must show the new tags: a proxy keeps the signed time for 30 s."""


class Part(NamedTuple):
    """A part of the day: its starts (worker, image), the tag, and the proxies that run."""

    starts: list[tuple[int, int]]
    tag: int
    lost: bool


def day() -> list[Part]:
    """Returns the parts of the day: a first tag, the morning after, and the time after a squid was lost."""
    draw, weights = random.Random(5), images.popularity(IMAGES)

    def drawn(each: int) -> list[tuple[int, int]]:
        chosen = draw.choices(range(IMAGES), cum_weights=weights, k=MOUNTS * each)
        return [(number % MOUNTS, image) for number, image in enumerate(chosen)]

    return [Part(drawn(3), 0, lost=False), Part(drawn(2), 1, lost=False), Part(drawn(2), 1, lost=True)]


def validate() -> Validation:
    """Makes the day, really and simulated. Needs root, squid, nginx and FUSE; takes some minutes."""
    with tempfile.TemporaryDirectory(prefix="lazyfs-validation-") as name:
        work = Path(name)
        work.chmod(0o755)
        stores, keys = [work / "first", work / "second"], work / "keys"
        small_images.publish(stores[0], keys, work, new=False)
        servers.run("cp", "-a", str(stores[0]), str(stores[1]))
        small_images.publish(stores[1], keys, work, new=True)
        recorded = [[_recorded(store, image, work) for image in range(IMAGES)] for store in stores]
        parts = day()
        counted, urls = _real(stores, parts, work)
        simulated = _simulated(recorded, parts, urls)
    return Validation(MOUNTS, sum(len(part.starts) for part in parts), counted, simulated)


# real


@contextmanager
def _mounted(
    url: str, root: Path, directory: Path, before: Sequence[str], proxies: str | None
) -> Iterator[Path]:
    mountpoint, state = directory / "mnt", directory / "state"
    mountpoint.mkdir(parents=True)
    options = ["--cache", str(directory / "cache"), "--cache-limit", "1G", "--trust", str(root)]
    options += ["--proxy", proxies] if proxies else []
    lazyfs("mount", url, str(mountpoint), *options, before=tuple(before), state=state)
    try:
        yield mountpoint
    finally:
        lazyfs("umount", str(mountpoint), state=state)


def _read(mountpoint: Path, image: int) -> None:
    for path in read_files(image):
        (mountpoint / place(image) / path).read_bytes()


def _recorded(store: Path, image: int, work: Path) -> Recorded:
    """Starts an image from a cold mount without proxies."""
    with tempfile.TemporaryDirectory(prefix="recorded-", dir=work) as name:
        directory, (port,) = Path(name), free_ports(1)
        directory.chmod(0o755)
        with servers.nginx(store, directory, "127.0.0.1", port) as origin:
            trust = store / "metadata/1.root.json"
            with _mounted(origin.url, trust, directory / "one", (), None) as mountpoint:
                _read(mountpoint, image)
            log = starts.read_log(origin.text())
    plain = {one.name: plain_size(store, one.name) for one in log if one.name}
    return Recorded(str(image), starts.PACKS, starts.fetches(log, plain, 0.0), 0, 0.0, 0.0)


def _real(stores: list[Path], parts: list[Part], work: Path) -> tuple[Counted, list[str]]:
    """Runs the day at real mounts. Returns the counts, and the proxies' URLs."""
    ports = free_ports(3)
    served = work / "served"
    servers.run("cp", "-a", str(stores[0]), str(served))
    with ExitStack() as stack:
        namespaces = stack.enter_context(networks.worker_networks(MOUNTS))
        (work / "origin").mkdir()
        origin = stack.enter_context(servers.nginx(served, work / "origin", networks.ADDRESS, ports[0]))
        proxies, running = [], []
        for number, port in enumerate(ports[1:]):
            running.append(stack.enter_context(ExitStack()))
            squid = servers.squid(work / f"squid{number}", networks.ADDRESS, port)
            proxies.append(running[-1].enter_context(squid))
        trust, group = served / "metadata/1.root.json", "|".join(proxy.url for proxy in proxies)
        mounts = [
            stack.enter_context(
                _mounted(origin.url, trust, work / f"w{number}", networks.inside(name, ()), group)
            )
            for number, name in enumerate(namespaces)
        ]
        for before, part in zip([None, *parts[:-1]], parts, strict=True):
            if before is not None and part.tag != before.tag:
                shown = [_revision(mountpoint) for mountpoint in mounts]
                servers.run("cp", "-a", f"{stores[part.tag]}/.", str(served))
                for number, mountpoint in enumerate(mounts):
                    _refresh(mountpoint, work / f"w{number}", shown[number])
            if part.lost:
                running[1].close()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                todo = [pool.submit(_of_workers, mounts, part.starts, number) for number in range(_AT_ONCE)]
                for one in todo:
                    one.result()
        counted = _counted(proxies, origin)
    return counted, [proxy.url for proxy in proxies]


def _revision(mountpoint: Path) -> bytes:
    return os.getxattr(mountpoint, "user.revision")


def _refresh(mountpoint: Path, directory: Path, before: bytes) -> None:
    """Looks for the new tags until the mount no longer shows the revision `before`. The proxies answer with
    the signed time of before for half a minute. Raises RuntimeError if the new revision does not come."""
    end = time.monotonic() + _NEWS_SECONDS
    lazyfs("refresh", str(mountpoint), state=directory / "state")
    while _revision(mountpoint) == before:
        if time.monotonic() > end:
            raise RuntimeError(f"{mountpoint}: no new revision in {_NEWS_SECONDS:.0f} s")
        time.sleep(1)
        lazyfs("refresh", str(mountpoint), state=directory / "state")


def _of_workers(mounts: list[Path], todo: list[tuple[int, int]], share: int) -> None:
    for worker, image in todo:
        if worker % _AT_ONCE == share:
            _read(mounts[worker], image)


def _counted(proxies: list[LoggedServer], origin: LoggedServer) -> Counted:
    passed = [one for proxy in proxies for one in servers.squid_lines(proxy.text())]
    passed = [one for one in passed if "/data/" in one.url and one.result.endswith("/200")]
    seen = [one for one in starts.read_log(origin.text()) if one.name and one.status == 200]
    return Counted(len(passed), sum(one.size for one in passed), len(seen), sum(one.size for one in seen))


# simulated


def _simulated(recorded: list[list[Recorded]], parts: list[Part], urls: list[str]) -> Counted:
    """Runs the same day on the simulated clock."""
    units = Units(1)
    programs: list[list[Program]] = [
        [images.program_of(units.of([("", one) for one in start.fetches]), start, 1.0) for start in tag]
        for tag in recorded
    ]
    clock, settings = Clock(), Settings(_SERVICE, _SERVICE, node_cache=1 << 30)
    todo = [(part, worker, image) for part in parts for worker, image in part.starts]
    lost = next(number for number, (part, _, _) in enumerate(todo) if part.lost) * _SPACING - 1
    origin = Origin(settings)
    proxies = [Proxy(urls[0], settings, origin), Proxy(urls[1], settings, origin, ((lost, 1e9),))]
    site = Site(clock, settings, proxies, origin)
    workers = [Worker(site, number) for number in range(MOUNTS)]
    times: list[float] = []
    for number, (part, worker, image) in enumerate(todo):
        clock.start(workers[worker].start(programs[part.tag][image], times), number * _SPACING)
    clock.run()
    return Counted(
        sum(proxy.requests for proxy in proxies),
        sum(proxy.bytes for proxy in proxies),
        origin.requests,
        origin.bytes,
    )
