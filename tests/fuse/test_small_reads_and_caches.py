"""Packs on a mount of which little is read, or whose cache is smaller than what is read: what they cost."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.digest import object_path
from lazyfs.core.params import Params
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import lazyfs, mounted
from tests.support.fault_server import FaultServer, of_directory
from tests.support.repositories import Repository
from tests.support.usage import disk_usage

pytestmark = pytest.mark.root
LIMITS = Params(pack_files=64 << 10, pack_least=32 << 10, pack_target=64 << 10, pack_most=80 << 10)
READS = 200
BLOCK = 4096


class Site:
    """A repository with a published tree of 1,500 small files in some 140 packs, and the server in front of
    it."""

    def __init__(self, directory: Path, server: FaultServer) -> None:
        self.directory, self.server = directory, server
        chance = random.Random(1)
        self.files = {
            f"d{number // 40:02}/f{number:04}": chance.randbytes(chance.randrange(1, 10_000))
            for number in range(1500)
        }
        self.repository = Repository(directory, LIMITS)
        self.repository.publish_files(self.files, directory / "tree", "lib/1")
        listed = Listed(open_tree(self.repository.path), "lib/1")
        places = [listed.place(name.encode()) for name in self.files]
        self.packs = {place.ref for place in places if place is not None}
        server.content = of_directory(self.repository.path)

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    def options(self) -> tuple[str | Path, ...]:
        trust = self.repository.path / "metadata/1.root.json"
        return ("--trust", trust, "--cache", self.cache)

    def charged(self) -> int:
        """Returns the bytes that the cache charges."""
        shown = lazyfs("cache", "--cache", self.cache, "status", "--json").stdout
        return int(json.loads(shown)["charged"])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    with FaultServer(lambda _: None) as server:
        yield Site(tmp_path, server)


def test_200_random_small_files_cost_at_most_200_mean_packs(site: Site) -> None:
    """In requests, in bytes fetched, and in bytes that the cache charges, guesses of the mount included."""
    chosen = random.Random(2).sample(sorted(site.files), READS)
    with mounted(site.server.url, site.directory / "mnt", *site.options()) as mnt:
        for name in chosen:
            (mnt / "lib/1" / name).stat()  # brings the catalogs, which are there for any number of reads
    catalogs = site.charged()
    site.server.forget()
    with mounted(site.server.url, site.directory / "mnt", *site.options()) as mnt:
        for name in chosen:
            assert (mnt / "lib/1" / name).read_bytes() == site.files[name]
    stored = {
        f"/{object_path(pack.digest)}": (site.repository.path / object_path(pack.digest)).stat().st_size
        for pack in site.packs
    }
    counts = {path: count for path, count in site.server.counts().items() if path.startswith("/data/")}
    assert set(counts) <= set(stored)
    assert len(site.packs) // 2 < sum(counts.values()) <= READS
    mean = sum(stored.values()) / len(stored)
    assert sum(stored[path] * count for path, count in counts.items()) <= READS * mean
    mean_charge = sum(-(-pack.size // BLOCK) * BLOCK for pack in site.packs) / len(site.packs)
    assert site.charged() - catalogs <= READS * mean_charge


def test_a_cache_smaller_than_the_packs_stays_within_its_limit(site: Site) -> None:
    """All files are read, twice over, through a cache of half their size. The daemon is stopped for each
    measurement: the usage is that of one moment."""
    limit = 4 << 20
    assert sum(map(len, site.files.values())) > 1.7 * limit
    options = (*site.options(), "--cache-limit", str(limit))
    most = 0
    with mounted(site.server.url, site.directory / "mnt", *options) as mnt:
        daemon = int(os.getxattr(mnt, "user.pid"))
        for number, (name, data) in enumerate([*site.files.items()] * 2):
            assert (mnt / "lib/1" / name).read_bytes() == data
            if number % 40 == 0:
                os.kill(daemon, signal.SIGSTOP)
                try:
                    used = disk_usage(site.cache / "objects")
                finally:
                    os.kill(daemon, signal.SIGCONT)
                assert used <= limit
                most = max(most, used)
    assert most > limit // 2, "the cache is made use of"
    assert disk_usage(site.cache / "objects") <= site.charged() <= limit
