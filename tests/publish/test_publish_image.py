"""A real published image has exactly the files that umoci unpacks as root."""

import re
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import lazyfs, new_repository
from tests.support.debian import TAG, make_image

PLACE = f"localhost/layout:{TAG}"
# Compares the catalogs, without FUSE. tests/acceptance compares the same image on a mount.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def published(image: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    store, keys = new_repository(tmp_path_factory.mktemp("repository"))
    lazyfs("publish", f"oci:{image[0]}:{TAG}", store, "--keys", keys, "--plain")
    return store, keys


@pytest.mark.root
def test_tree_is_what_umoci_unpacks(image: tuple[Path, Path], published: tuple[Path, Path]) -> None:
    tree = open_tree(published[0])
    link = tree.find(PLACE)
    assert link is not None
    target = link.entry.content.decode()
    assert re.fullmatch(r"\.\./\.flat/([0-9a-f]{2})/\1[0-9a-f]{62}", target)
    listed = Listed(tree, target.removeprefix("../"))
    rootfs = image[1]
    expected = trees.listing(rootfs)
    assert len(expected) > 6000
    assert listed.listing() == expected
    assert listed.hardlink_groups() == trees.hardlink_groups(rootfs)
    assert len(listed.hardlink_groups()) >= 2
    assert listed.xattrs() == trees.xattrs(rootfs)
    assert listed.digests() == trees.digests(rootfs)
    devices = {path: entry.detail for path, entry in listed.entries.items() if entry.detail >> 32}
    assert devices[b"srv/cases/null"] == 1 << 32 | 3
    assert devices[b"srv/cases/block"] == 259 << 32 | 70000


@pytest.mark.root
def test_second_publish_writes_nothing(image: tuple[Path, Path], published: tuple[Path, Path]) -> None:
    store, keys = published
    before = sorted(path for path in store.rglob("*") if path.is_file())
    done = lazyfs("publish", f"oci:{image[0]}:{TAG}", store, "--keys", keys, "--plain")
    assert "up to date" in done.stdout
    assert sorted(path for path in store.rglob("*") if path.is_file()) == before


@pytest.mark.root
def test_check_passes_and_manifest_and_config_are_in_the_tree(
    image: tuple[Path, Path], published: tuple[Path, Path]
) -> None:
    assert "all right" in lazyfs("check", published[0]).stdout
    tree = open_tree(published[0])
    blobs = {path.read_bytes() for path in (image[0] / "blobs/sha256").iterdir() if path.stat().st_size < 1e5}
    for name in ("manifest.json", "config.json"):
        assert tree.file(f".metadata/{PLACE}/{name}") in blobs
