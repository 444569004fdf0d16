"""Stacks of layers drawn by Hypothesis: lazyfs's catalogs against trees that `umoci unpack` makes as root.

umoci 0.4.7 and lazyfs differ on purpose in these cases:

- A directory without an entry in any layer: umoci sets its modification time, and that of its parent, to the
  current time. lazyfs sets the directory's time to the epoch and leaves the parent's alone. The test does not
  compare a time if umoci's is not before the start of the test.
- A name that leads out of the image: umoci cleans it, lazyfs refuses it. Not generated.
- A link that leads out of the image: umoci follows it as if `..` above the image's root were the root. lazyfs
  refuses an entry below such a link, with the message LEADS_OUT. The test does not compare such a stack.
- A bare `.wh.`: umoci deletes the directory that contains it, lazyfs refuses it. Not generated.
"""

import os
import shutil
import stat
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError
from tests.support import trees
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import mounted
from tests.support.counts import count
from tests.support.drawn_layers import stacks
from tests.support.oci_images import TAG, Built, layer
from tests.support.repositories import Repository

EXAMPLES = count(100, 2000)
pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

LEADS_OUT = "leads out of the image through a symbolic link"


class LeadsOut(Exception):
    """lazyfs refuses a stack because of a link that leads above the image's root, which umoci would
    follow."""


MOUNTED = 10
"""The number of stacks that are compared on one mount."""


class Bench:
    """One repository and one directory for umoci, shared by all examples."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = Repository(directory)

    def unpack(self, layout: Path) -> Path | None:
        bundle = self.directory / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        done = subprocess.run(
            ["umoci", "--log=error", "unpack", "--image", f"{layout}:{TAG}", str(bundle)],
            check=False,
            capture_output=True,
        )
        return bundle / "rootfs" if done.returncode == 0 else None

    def publish(self, layout: Path, image: Built) -> Listed | None:
        """Publishes the image; returns None if lazyfs refuses it. Raises LeadsOut if lazyfs refuses a link
        that umoci accepts."""
        try:
            self.repository.publish(f"oci:{layout}", place="r.example/x:1")
        except FormatError as error:
            if LEADS_OUT in str(error):
                raise LeadsOut from error
            return None
        return Listed(open_tree(self.repository.path), image.flat)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("differential"))


def without_clock(expected: dict[bytes, bytes], found: dict[bytes, bytes], began: float) -> None:
    """In each directory to which umoci gave the current time, replaces lazyfs's time by umoci's."""
    for path, line in expected.items():
        kind, *_, mtime = line.split(b" ")
        ours = found.get(path, b"").rsplit(b" ", 1)
        if kind == b"d" and float(mtime) >= began and len(ours) == 2:
            found[path] = ours[0] + b" " + mtime


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stacks())
def test_catalogs_are_what_umoci_unpacks(bench: Bench, stack: list[list[tuple[Any, bytes]]]) -> None:
    image = Built([layer(*layers) for layers in stack], how="none")
    layout = bench.directory / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    image.write_layout(layout)
    began = int(time.time())
    rootfs = bench.unpack(layout)
    try:
        listed = bench.publish(layout, image)
    except LeadsOut:
        event(LEADS_OUT)
        return
    event("refused by both" if rootfs is None and listed is None else "published")
    assert (rootfs is None) == (listed is None)
    if rootfs is None or listed is None:
        return
    expected, found = trees.listing(rootfs), listed.listing()
    without_clock(expected, found, began)
    assert found == expected
    assert listed.hardlink_groups() == trees.hardlink_groups(rootfs)
    assert listed.xattrs() == trees.xattrs(rootfs)
    assert listed.digests() == trees.digests(rootfs)
    top = os.lstat(rootfs)
    assert (top.st_mode, top.st_uid, top.st_gid) == (listed.root.mode, listed.root.uid, listed.root.gid)
    assert stat.S_ISDIR(top.st_mode)
    if top.st_mtime < began:
        assert listed.root.mtime == top.st_mtime_ns


def unpacked(directory: Path, image: Built) -> Path | None:
    """Returns the tree that umoci unpacks from the image; None if umoci refuses it."""
    image.write_layout(directory / "layout")
    done = subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{directory}/layout:{TAG}", str(directory / "bundle")],
        check=False,
        capture_output=True,
    )
    return directory / "bundle/rootfs" if done.returncode == 0 else None


@settings(
    max_examples=count(3, 200),
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(made=st.lists(stacks(), min_size=MOUNTED, max_size=MOUNTED))
def test_a_mount_shows_what_umoci_unpacks(
    made: list[list[list[tuple[Any, bytes]]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("mounted")
    began = int(time.time())
    repository = Repository(directory)
    expected: dict[str, Path] = {}
    for number, stack in enumerate(made):
        place = directory / str(number)
        image = Built([layer(*layers) for layers in stack], how="none")
        rootfs = unpacked(place, image)
        if rootfs is not None:
            source = f"oci:{place}/layout"
            try:
                repository.publish(source, place=f"r.example/x:{number}", now=lambda: datetime.now(UTC))
            except FormatError as error:
                if LEADS_OUT not in str(error):
                    raise
                continue
            expected[f"r.example/x:{number}"] = rootfs
    options = ["--trust", str(repository.path / "metadata/1.root.json"), "--cache", str(directory / "cache")]
    with mounted(repository.path, directory / "mnt", *options) as mountpoint:
        for name, rootfs in expected.items():
            shown = (mountpoint / name).resolve()
            there, found = trees.listing(rootfs), trees.listing(shown)
            without_clock(there, found, began)
            assert found == there
            assert trees.hardlink_groups(shown) == trees.hardlink_groups(rootfs)
            assert trees.xattrs(shown) == trees.xattrs(rootfs)
            assert trees.digests(shown) == trees.digests(rootfs)
    shutil.rmtree(directory)
