"""A publish killed at any moment leaves an intact repository, and the next publish continues from there."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from lazyfs.repository.commit import read_revision
from tests.support import trees
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import LAZYFS, mounted
from tests.support.counts import count
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

ROUNDS = count(6, 50)
pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]


def write_image(directory: Path, seed: int) -> Built:
    content = random.Random(seed)
    layers = [
        layer(
            *(entry(f"d{number}/f{part}", data=content.randbytes(3000)) for part in range(150)),
            entry("big", data=content.randbytes(3 << 20)),
        )
        for number in range(2)
    ]
    image = Built(layers, how="none")
    image.write_layout(directory)
    return image


def start(repository: Repository, layout: Path) -> "subprocess.Popen[bytes]":
    command = [*LAZYFS, "publish", f"oci:{layout}", str(repository.path), "--as", "r.example/x:1", "--plain"]
    return subprocess.Popen(
        [*command, "--keys", str(repository.keys_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_killed_at_random_moments(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    layout = tmp_path / "layout"
    image = write_image(layout, 0)
    began = time.monotonic()
    assert start(repository, layout).wait() == 0
    whole = time.monotonic() - began
    draw = random.Random(os.environ.get("LAZYFS_SEED", "kill"))
    revision = read_revision(repository.store).number
    killed_inside = 0
    for seed in range(1, ROUNDS + 1):
        fresh = write_image(layout, seed)
        process = start(repository, layout)
        try:
            # The wait is deliberate: the moment of the kill is random, at any step of the publish.
            process.wait(timeout=draw.uniform(0.2, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        findings = repository.check()
        assert findings.bad == 0, findings.problems
        now = read_revision(repository.store).number
        assert now in (revision, revision + 1)
        killed_inside += now == revision
        image = fresh if now > revision else image
        revision = now
        link = open_tree(repository.path).find("r.example/x:1")
        assert link is not None
        assert link.entry.content == f"../{image.flat}".encode()
        with mounted(repository.path, tmp_path / "mnt", "--cache", tmp_path / "cache") as mount:
            assert len(trees.digests((mount / "r.example/x:1").resolve())) == 2 * 150 + 1
    assert killed_inside
    assert start(repository, layout).wait() == 0
    assert repository.check().bad == 0
    assert len(Listed(open_tree(repository.path), fresh.flat).entries) == 2 * 151 + 1
