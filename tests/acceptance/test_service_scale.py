"""The cost of a run of the service over many images: requests, time and memory if no tag has moved, and the
bytes that are written for one more image."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.tree_paths import flat_path, layer_path, metadata_path
from lazyfs.images.snapshots import link
from lazyfs.repository.edit import Edit
from lazyfs.sync.layout import link_target
from tests.support.cli import LAZYFS
from tests.support.counts import count
from tests.support.measured import Measured
from tests.support.oci_images import Built
from tests.support.registry import real_registry
from tests.support.registry_door import door_to
from tests.support.service import ServiceSite, built

TAGS = count(100, 1000)
IMAGES = 10_000
ROUND_TRIP = 0.02
"""Round-trip time to the registry in seconds."""
MOST_SECONDS = 60
MOST_MEMORY = 200_000_000
MOST_METADATA = 2_000_000


PROGRAM = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


def run(*arguments: str) -> tuple[float, int, str]:
    """Runs a command; returns the seconds that it took, its peak of memory in bytes, and its output. The
    command is started by a small process: a peak counts the memory of the process that forks, too."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *LAZYFS, *arguments], capture_output=True, text=True, check=True
    )
    peak = int(done.stderr.splitlines()[-1]) * 1024
    return time.monotonic() - began, peak, done.stdout


@pytest.mark.timeout(600)
def test_tags_that_have_not_moved_cost_one_request_each(tmp_path: Path, measured: Measured) -> None:
    site = ServiceSite(tmp_path / "site", {})
    image = built("one")
    site.wish("r.example/team/app:*")
    with (
        real_registry(tmp_path / "registry", accounts_needed=False) as registry,
        door_to(registry.host) as door,
    ):
        registry.put(image, "team/app", "0")
        manifest = image.blobs[image.manifest["digest"]]
        for number in range(1, TAGS):
            registry.put_manifest("team/app", str(number), image.manifest["mediaType"], manifest)
        (site.directory / "service.toml").write_text(
            f'[registries."r.example"]\naddress = "{door.host}"\nplain-http = true\n'
        )
        arguments = [
            "sync", str(site.list), str(site.repository.path), "--keys", str(site.repository.keys_path),
            "--config", str(site.directory / "service.toml"), "--status-dir", str(site.status), "--json",
        ]  # fmt: skip
        assert len(json.loads(run(*arguments)[2])["events"]) == TAGS
        door.take()
        door.delay = ROUND_TRIP
        seconds, memory, printed = run(*arguments)
    assert json.loads(printed)["unchanged"] == TAGS
    asked = [line for line in door.take() if "/v2/ " not in line]
    assert sum(line.startswith("HEAD") for line in asked) == TAGS
    assert [line for line in asked if not line.startswith("HEAD")] == [
        "GET /v2/team/app/tags/list?n=1000 200"
    ]
    assert memory <= MOST_MEMORY
    if TAGS == 1000:
        assert seconds <= MOST_SECONDS
    measured(f"{TAGS} tags: {seconds:.1f} s, {memory / 1e6:.0f} MB")


def fill(site: ServiceSite, like: str, image: Built, images: int) -> None:
    """Puts `images` images into the tree. Each has paths of its own for its tree, layer and metadata, but all
    these paths lead to the content of `image`, which is published at `like`."""
    tree = site.tree()

    def part(path: str) -> Inode:
        inode = tree.inode_at(path)
        assert inode
        return inode

    (diff_id,) = image.diff_ids
    flat = part(image.flat)
    layer = part(layer_path(Digest(bytes.fromhex(diff_id.removeprefix("sha256:")))))
    metadata = part(metadata_path(like))
    with Edit(site.store, site.repository.keys, lambda: site.clock) as edit:
        for number in range(images):
            name = sha256(b"%d" % number)
            place = f"r.example/team{number % 100}/app{number // 100 % 10}:{number}"
            digest = hashlib.sha256(place.encode()).hexdigest()
            edit.put(flat_path(name), flat)
            edit.put(layer_path(name), layer)
            edit.put(metadata_path(place), metadata)
            for path in (place, f"{place.rpartition(':')[0]}:sha256:{digest}"):
                edit.put(path, link(link_target(path, flat_path(name)), 0))
        edit.commit()


@pytest.mark.timeout(600)
def test_one_image_more_writes_little(tmp_path: Path, measured: Measured) -> None:
    with real_registry(tmp_path / "registry", accounts_needed=False) as registry:
        site = ServiceSite(tmp_path / "site", {"r.example": registry.host})
        first = built("first")
        registry.put(first, "team0/app0", "first")
        site.wish("r.example/team0/app0:first")
        site.run()
        fill(site, "r.example/team0/app0:first", first, IMAGES)
        registry.put(built("more"), "team1/app1", "more")
        site.wish("r.example/team0/app0:first", "r.example/team1/app1:more")
        before = {(path, path.stat().st_ino) for path in site.repository.files()}
        report = site.run()
    assert report.count("published") == 1
    assert len(site.images()) == IMAGES + 2
    after = {(path, path.stat().st_ino) for path in site.repository.files()}
    written = sum(path.stat().st_size for path, _ in after - before)
    measured(f"{IMAGES} images: one more writes {written:,} bytes")
    assert 0 < written <= MOST_METADATA
