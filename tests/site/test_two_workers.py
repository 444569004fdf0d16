"""Two workers that start the same program behind one squid: what the proxy is asked for and stores, and what
the second worker costs the origin."""

import random
from collections import Counter
from pathlib import Path

import pytest

from lazyfs.core.params import Params
from tests.support.cli import mounted
from tests.support.nginx import NginxOrigin
from tests.support.repositories import Repository
from tests.support.squid import Squid

pytestmark = pytest.mark.root
PACKS = Params(pack_files=64 << 10, pack_least=32 << 10, pack_target=64 << 10, pack_most=80 << 10)
SINGLE = Params(pack_files=0)
FILES = {
    f"d{number // 40:02}/f{number:03}": random.Random(number).randbytes(random.Random(number).randrange(8000))
    for number in range(200)
}


class Behind:
    """A proxy with an empty cache, in front of the origin of a tree that was published with these limits."""

    def __init__(self, directory: Path, origin: NginxOrigin, squid: Squid, trust: Path) -> None:
        self.directory, self.origin, self.squid, self.trust = directory, origin, squid, trust

    def start(self, worker: str) -> tuple[Counter[str], Counter[str]]:
        """Reads all files on a worker with an empty cache. Returns the squid's result codes for the requests
        for objects, and the origin's requests by path."""
        asked, passed = len(self.squid.results()), self.origin.counts()
        options = ("--proxy", self.squid.url, "--trust", self.trust, "--cache", self.directory / worker)
        with mounted(self.origin.url, self.directory / "mnt", *options) as mnt:
            for name, data in FILES.items():
                assert (mnt / "lib/1" / name).read_bytes() == data
        codes = Counter(code for code, url in self.squid.results()[asked:] if "/data/" in url)
        return codes, self.origin.counts() - passed


def starts(directory: Path, params: Params) -> tuple[int, int]:
    """Starts two workers. Returns the requests for objects that the first one made, and the number of objects
    that the proxy stored."""
    directory.mkdir()
    repository = Repository(directory, params)
    repository.publish_files(FILES, directory / "tree", "lib/1")
    with NginxOrigin(repository.path) as origin, Squid() as squid:
        site = Behind(directory, origin, squid, repository.path / "metadata/1.root.json")
        first, at_origin = site.start("first")
        objects = [path for path in at_origin if path.startswith("/data/")]
        assert first["TCP_MISS/200"] == first.total() == len(objects)
        second, at_origin = site.start("second")
        assert {code for code in second if not code.startswith("TCP_") or "HIT" not in code} == set()
        assert second.total() == first.total()
        assert all(path.startswith("/metadata/") for path in at_origin), at_origin
    return first.total(), len(objects)


def test_the_second_worker_costs_the_origin_metadata_and_packs_are_few_objects_at_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    single, single_stored = starts(tmp_path / "single", SINGLE)
    packed, packed_stored = starts(tmp_path / "packed", PACKS)
    assert single == single_stored > len(FILES) * 0.9
    assert packed == packed_stored < single / 8
