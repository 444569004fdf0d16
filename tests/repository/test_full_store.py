"""A store on a disk without a free byte can still be collected, and then be published into again."""

import errno
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lazyfs.core.params import Params
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.collect import Collector
from lazyfs.store import reserve
from lazyfs.store.directory import DirectoryStore
from tests.support.cli import lazyfs
from tests.support.older_objects import make_older
from tests.support.small_disks import loop_ext4, mounted_disk

pytestmark = pytest.mark.root
SIZE = 24 << 20


def fill(directory: Path) -> None:
    """Fills the disk to its last free byte."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break


def new_store(disk: Path, keys: Path) -> DirectoryStore:
    """Makes a repository that keeps no old revisions. Publishes a tree of 4 MiB in it and removes the tree
    again."""
    store = disk / "store"
    lifecycle.init(
        str(store), "test.example.org", datetime.now(UTC), keys=str(keys), params=Params(keep_days=0)
    )
    source = keys.parent / "tree"
    source.mkdir()
    for number in range(40):
        (source / str(number)).write_bytes(random.Random(number).randbytes(100_000))
    lazyfs("publish", f"dir:{source}", store, "--as", "software/old", "--keys", keys)
    lazyfs("rm", "software/old", store, "--keys", keys)
    make_older(store)
    return DirectoryStore(str(store))


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_full_store_is_collected(tmp_path: Path, kind: str) -> None:
    keys = tmp_path / "keys"
    made = (
        loop_ext4(tmp_path, SIZE)
        if kind == "ext4"
        else mounted_disk(tmp_path / "mnt", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs")
    )
    with made as disk:
        store = new_store(disk, keys)
        fill(disk)
        refused = lazyfs(
            "publish", f"dir:{tmp_path / 'tree'}", store.path, "--as", "x/y", "--keys", keys, check=False
        )
        assert refused.returncode == 1
        assert "No space left" in refused.stderr
        report = json.loads(lazyfs("gc", store.path, "--keys", keys, "--json", "--wait", "0").stdout)
        assert report["deleted"] >= 3, report
        assert report["waiting_for"] == 0
        for number in range(20, 40):  # the disk has no room for more than was deleted
            (tmp_path / "tree" / str(number)).unlink()
        lazyfs("publish", f"dir:{tmp_path / 'tree'}", store.path, "--as", "x/y", "--keys", keys)
        assert "all right" in lazyfs("check", store.path).stdout


def test_a_collection_that_needs_the_reserve_leaves_it_set_aside(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    with mounted_disk(tmp_path / "mnt", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs") as disk:
        store = new_store(disk, keys)
        path = Path(store.path) / reserve.NAME
        assert path.stat().st_blocks * 512 >= reserve.SIZE
        fill(disk)
        Collector(store, key_files.load(str(keys)), lambda: datetime.now(UTC), wait=0).run()
        assert path.stat().st_blocks * 512 >= reserve.SIZE
