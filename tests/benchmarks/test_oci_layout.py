"""The layouts that benchmarks make are published as every layout is, which compares all their digests."""

import shutil
from pathlib import Path

import pytest

from benchmarks.oci_layout import Layout
from benchmarks.sync.images import as_layout
from lazyfs.repository.diff import resolve
from tests.support.catalog_listing import Listed, open_tree
from tests.support.repositories import Repository


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    """Returns two trees, of a file each."""
    trees = [tmp_path / name for name in ("lower", "upper")]
    for tree in trees:
        tree.mkdir()
        (tree / f"in_{tree.name}").write_text(tree.name)
    return trees


@pytest.fixture
def layout(tmp_path: Path, trees: list[Path]) -> Layout:
    """Returns a layout of two images: `one` has the lower tree as its only layer, `two` has both trees."""
    layout = Layout(tmp_path / "layout")
    layers = [layout.layer_of(tree) for tree in trees]
    layout.add("one", layers[:1], {})
    layout.add("two", layers, {"Cmd": ["true"]})
    return layout


def published(tmp_path: Path, source: str) -> list[bytes]:
    """Publishes an image; returns the names in it."""
    (tmp_path / "repository").mkdir()
    repository = Repository(tmp_path / "repository")
    repository.publish(source, place="r.example/image:1")
    tree = open_tree(repository.path)
    return sorted(Listed(tree, resolve(tree, "r.example/image:1").path).entries)


@pytest.mark.parametrize(("tag", "names"), [("one", [b"in_lower"]), ("two", [b"in_lower", b"in_upper"])])
def test_images_of_one_layout(layout: Layout, tmp_path: Path, tag: str, names: list[bytes]) -> None:
    assert published(tmp_path, f"oci:{layout.path}:{tag}") == names


def test_a_layer_of_chosen_entries(layout: Layout, trees: list[Path], tmp_path: Path) -> None:
    (trees[0] / "left_out").touch()
    layout.add("chosen", [layout.layer_of(trees[0], "in_lower")], {})
    assert published(tmp_path, f"oci:{layout.path}:chosen") == [b"in_lower"]


def test_an_image_whose_blobs_another_program_has_copied(layout: Layout, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(layout.path / "blobs/sha256", copied)
    (manifest,) = (blob for blob in copied.iterdir() if blob.read_bytes().count(b"tar+gzip") == 2)
    manifest.rename(copied / "manifest.json")
    made = as_layout(copied, tmp_path / "linked", "again")
    assert published(tmp_path, f"oci:{made}") == [b"in_lower", b"in_upper"]
