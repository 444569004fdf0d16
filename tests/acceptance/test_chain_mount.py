"""A real mount behind a chain of proxies, as seen by a program that reads files while servers die."""

import errno
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import SEED, Chaos
from tests.support.cli import lazyfs, mounted, new_repository, status
from tests.support.counts import count
from tests.support.measured import Measured
from tests.support.nginx import NginxOrigin
from tests.support.site import RealSite
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

SECONDS = count(6, 120)
SLACK = count(10, 1)
"""Seconds after a deadline. The limit is long in the ordinary tier, since other tests run beside it."""
BOTH = [pytest.param("pyfuse3", marks=pytest.mark.long), "direct"]
"""Both kinds of FUSE session. The ordinary tier skips pyfuse3, since the chain is the same under both."""
SMALL, BIG = 200, 100 << 20


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Publishes 200 files of 100 KB and one of 100 MiB; returns the store and the digest of each file."""
    directory = tmp_path_factory.mktemp("published")
    source = random.Random(5)
    digests = {}
    for index in range(SMALL):
        file = directory / "tree" / f"d{index % 10}" / f"f{index}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.randbytes(100_000))
        digests[str(file.relative_to(directory / "tree"))] = hashlib.sha256(file.read_bytes()).hexdigest()
    with (directory / "tree" / "big").open("wb") as big:
        for _ in range(BIG >> 20):
            big.write(source.randbytes(1 << 20))
    digests["big"] = hashlib.sha256((directory / "tree" / "big").read_bytes()).hexdigest()
    store, keys = new_repository(directory)
    lazyfs("publish", f"dir:{directory / 'tree'}", store, "--keys", keys, "--as", "t")
    return store, digests


class Stand:
    """A mount over a real site."""

    def __init__(self, site: RealSite, mnt: Path, digests: dict[str, str], work: Path) -> None:
        self.site = site
        self.mnt = mnt
        self.digests = digests
        self._work = work
        self._serial = itertools.count()

    def path(self, name: str) -> Path:
        return self.mnt / "t" / name

    def reading(self, names: list[str], threads: int, seconds: float = 0) -> "subprocess.Popen[str]":
        """Starts a process with this number of threads that read the named files: for `seconds`, or each file
        once if it is 0."""
        wanted = self._work / f"wanted{next(self._serial)}.json"
        wanted.write_text(json.dumps({str(self.path(name)): self.digests[name] for name in names}))
        command = [sys.executable, "-m", "tests.support.tree_reader", str(wanted), str(threads), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def read(self, names: list[str], threads: int = 1, seconds: float = 0) -> Any:
        """Reads the named files as `reading` does, waits for the end, and returns the report of the
        process."""
        with self.reading(names, threads, seconds) as process:
            out, _ = process.communicate(timeout=300)
        return json.loads(out)


@contextmanager
def mounting(
    published: tuple[Path, dict[str, str]], work: Path, *options: str, second: NginxOrigin | None = None
) -> Iterator[Stand]:
    store, digests = published
    with RealSite(store) as site:
        origins = f"{site.between.url};{second.url}" if second else site.nginx.url
        chosen = ["--cache", str(work / "cache"), "--trust", str(store / "metadata/1.root.json"), *options]
        chain = f"{site.group};DIRECT"
        with mounted(origins, work / "mnt", "--proxy", chain, "--log", str(work / "log"), *chosen) as mnt:
            try:
                yield Stand(site, mnt, digests, work)
            finally:
                for daemon in (site.one, site.two, site.parent, site.nginx):
                    if daemon.running:
                        daemon.resume()


def small(start: int, stop: int) -> list[str]:
    return [f"d{index % 10}/f{index}" for index in range(start, stop)]


@pytest.mark.parametrize("kind", BOTH)
def test_chaos(published: tuple[Path, dict[str, str]], tmp_path: Path, kind: str, measured: Measured) -> None:
    options = ["--fuse", kind, "--cache-limit", "12M"]
    with (
        NginxOrigin(published[0]) as second,
        mounting(published, tmp_path, *options, second=second) as stand,
    ):
        with Chaos(stand.site, second) as chaos:
            found = [stand.read(small(0, SMALL), threads=8, seconds=SECONDS)]
            while chaos.total() <= SECONDS / 4 and len(found) < 10:  # a slow machine restarts servers slowly
                found.append(stand.read(small(0, SMALL), threads=8, seconds=SECONDS))
        evictions = status(stand.mnt)["cache"]["evictions"]
    measured(
        f"chaos on a mount ({kind}), seed {SEED}, {SECONDS} s: {chaos.total()} faults injected, "
        f"{sum(one['reads'] for one in found)} files read, "
        f"slowest {max(one['slowest'] for one in found):.1f} s, {evictions} evictions"
    )
    assert [error for one in found for error in one["failed"]] == []
    assert [path for one in found for path in one["wrong"]] == []
    assert evictions > 0
    assert chaos.total() > SECONDS / 4


@pytest.mark.parametrize("kind", BOTH)
def test_32_readers_of_a_cold_file(
    published: tuple[Path, dict[str, str]], tmp_path: Path, kind: str, measured: Measured
) -> None:
    with mounting(published, tmp_path, "--fuse", kind, "--cache-limit", "1G") as stand:
        found = stand.read(["big"], threads=32)

        def at_origin() -> dict[str, int]:
            return {path: seen for path, seen in stand.site.nginx.counts().items() if "/data/" in path}

        until(lambda: len(at_origin()) >= 100, 60)  # nginx logs an answer after its end
        counts = at_origin()
    measured(
        f"32 readers of 100 MiB on a mount ({kind}): {len(counts)} objects, "
        f"{sum(counts.values())} requests at the origin"
    )
    assert (found["failed"], found["wrong"], found["reads"]) == ([], [], 32)
    assert sum(counts.values()) <= 1.05 * len(counts)


@pytest.mark.parametrize("kind", BOTH)
def test_all_paths_down_and_back(published: tuple[Path, dict[str, str]], tmp_path: Path, kind: str) -> None:
    patience = 3.0
    with mounting(published, tmp_path, "--fuse", kind, "--patience", str(patience)) as stand:
        site = stand.site
        first = [name for name in small(0, SMALL) if name.startswith("d0/")]
        assert stand.read(first)["failed"] == []  # fetches their packs too, which hold no file of d5
        for daemon in (site.one, site.two, site.parent, site.nginx):
            daemon.kill()
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output") as failure:
            stand.path("d5/f55").read_bytes()
        assert failure.value.errno == errno.EIO
        assert time.monotonic() - began < patience + SLACK
        assert stand.read(first)["failed"] == []  # from the cache of lazyfs: the kernel's was dropped
        site.nginx.start()
        back = time.monotonic()
        while stand.read(["d5/f55"])["failed"]:
            assert time.monotonic() - back < 15 + SLACK, "not within the probe interval"
        for daemon in (site.parent, site.one, site.two):
            daemon.start()
        assert stand.read(small(0, SMALL), threads=4)["failed"] == []


@pytest.mark.parametrize("kind", BOTH)
def test_with_wait_a_read_outlives_the_outage_and_can_be_killed(
    published: tuple[Path, dict[str, str]], tmp_path: Path, kind: str
) -> None:
    options = ["--fuse", kind, "--patience", "1", "--on-outage", "wait"]
    with mounting(published, tmp_path, *options) as stand:
        site = stand.site
        os.listdir(stand.path("d5"))
        for daemon in (site.one, site.two, site.parent, site.nginx):
            daemon.kill()
        misses = status(stand.mnt)["counters"]["misses"]
        with stand.reading(["d5/f55"], 1) as patient, stand.reading(["d6/f66"], 1) as victim:
            while status(stand.mnt)["counters"]["misses"] < misses + 2:
                time.sleep(0.05)
            time.sleep(3)  # three times the deadline by which a read would fail without `--on-outage wait`
            assert patient.poll() is None
            victim.send_signal(signal.SIGKILL)
            victim.wait(timeout=5)
            site.nginx.start()
            out, _ = patient.communicate(timeout=60)
            assert json.loads(out)["failed"] == []
        for daemon in (site.parent, site.one, site.two):
            daemon.start()


@pytest.mark.parametrize("kind", BOTH)
def test_a_reader_of_a_hanging_site_can_be_killed(
    published: tuple[Path, dict[str, str]], tmp_path: Path, kind: str
) -> None:
    with mounting(published, tmp_path, "--fuse", kind, "--patience", "60") as stand:
        site = stand.site
        os.listdir(stand.path("d5"))
        for daemon in (site.one, site.two, site.nginx):
            daemon.pause()
        misses = status(stand.mnt)["counters"]["misses"]
        with stand.reading(["d5/f55"], 1) as victim:
            while status(stand.mnt)["counters"]["misses"] == misses:
                time.sleep(0.05)
            victim.send_signal(signal.SIGKILL)
            victim.wait(timeout=5)
        for daemon in (site.one, site.two, site.nginx):
            daemon.resume()
        assert stand.read(["d5/f55"])["failed"] == []
