"""Each source of a publish succeeds or fails alone; a failed source does not prevent the others."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.images.observer import PublishObserver
from lazyfs.images.prepare import PreparedSource, SourcePreparer
from lazyfs.repository.edit import Edit
from lazyfs.store.ingest import Ingest
from tests.support.catalog_listing import open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, OPTIONS, Repository

LARGE = os.urandom(3 << 20)


def layout(directory: Path, name: str, *, damaged: bool = False) -> str:
    """Makes an image of three layers; returns the source to publish. If `damaged`, the last layer has a wrong
    byte in the middle of its files."""
    layers = [layer(entry(f"{name}{number}", data=b"%d" % number)) for number in range(2)]
    layers.append(layer(entry("large", data=LARGE), entry(name, data=name.encode())))
    built = Built(layers)
    path = built.write_layout(directory / name)
    if damaged:
        blob = path / "blobs/sha256" / built.layer_descriptors[2]["digest"].removeprefix("sha256:")
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    return f"oci:{path}"


def preparer(edit: Edit) -> SourcePreparer:
    return SourcePreparer(
        edit.tree, edit.base.params, edit.ingest, OPTIONS.images, PublishObserver(), plain=True
    )


def test_a_source_that_fails_leaves_the_others_whole(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    (tmp_path / "not.tar").write_bytes(b"no archive" * 200)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(LARGE)
    sources = {
        "r.example/a:1": layout(tmp_path, "a"),
        "r.example/bad:1": layout(tmp_path, "bad", damaged=True),
        "r.example/none:1": f"oci:{tmp_path}/none",
        "r.example/archive:1": f"oci-archive:{tmp_path}/not.tar",
        "r.example/sif:1": f"sif:{tmp_path}/not.tar",
        "software/bad": f"tar:{tmp_path}/not.tar",
        "software/good": f"dir:{tmp_path}/tree",
        "r.example/z:1": layout(tmp_path, "z"),
    }
    failed = []
    with Edit(repository.store, repository.keys, lambda: NOW) as edit:
        unit = preparer(edit)
        for place, source in sources.items():
            try:
                prepared = unit.prepare(source, place)
            except LazyfsError:
                failed.append(place)
                continue
            assert prepared.place == place
            for path, inode in prepared.changes.items():
                edit.put(path, inode)
        edit.commit()
    refused = ["bad:1", "none:1", "archive:1", "sif:1"]
    assert failed == [*(f"r.example/{name}" for name in refused), "software/bad"]
    tree = open_tree(repository.path)
    for place in sources:
        assert bool(tree.find(place)) is (place not in failed)
    assert tree.file("software/good/f") == LARGE
    assert repository.check().bad == 0


def test_images_are_prepared_side_by_side_and_committed_together(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    store = repository.store
    names = [f"image{number}" for number in range(6)]
    layouts = {f"r.example/{name}:1": layout(tmp_path, name) for name in names}
    with Edit(store, repository.keys, lambda: NOW) as edit:

        def prepare(place: str) -> PreparedSource:
            with Ingest(store, edit.base.params, workers=2) as ingest:
                own = dataclasses.replace(preparer(edit), ingest=ingest)
                return own.prepare(layouts[place], place)

        with ThreadPoolExecutor(3) as pool:
            for prepared in pool.map(prepare, layouts):
                for path, inode in prepared.changes.items():
                    edit.put(path, inode)
        assert edit.commit().revision.number == 2
    tree = open_tree(repository.path)
    assert all(tree.find(place) for place in layouts)
    assert repository.check().bad == 0


def test_an_image_that_fails_in_its_last_layer_puts_nothing_into_the_tree(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with Edit(repository.store, repository.keys, lambda: NOW) as edit:
        with pytest.raises(LazyfsError, match="layer 2"):
            preparer(edit).prepare(layout(tmp_path, "bad", damaged=True), "r.example/bad:1")
        assert edit.commit().changed is False


def test_a_tree_needs_a_place_before_it_is_read(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    edit = Edit(repository.store, repository.keys, lambda: NOW)
    with edit, pytest.raises(UsageError, match="--as PATH"):
        preparer(edit).prepare(f"tar:{tmp_path}/none.tar")
