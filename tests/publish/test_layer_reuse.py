"""A layer that is already in the store is not read again. The tree also shows each layer by itself."""

import stat
import tarfile
from pathlib import Path

from lazyfs.images.observer import PublishObserver
from tests.support.catalog_listing import Listed, open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

LOWER = layer(
    entry("etc", tarfile.DIRTYPE), entry("etc/a", data=b"a"), entry("etc/b", data=b"b" * 5000), entry("gone")
)
UPPER = layer(entry("etc/.wh.a"), entry("etc/c", data=b"c"), entry(".wh.gone"), entry("etc/.wh..wh..opq"))


def layer_path(diff_id: str) -> str:
    digits = diff_id.removeprefix("sha256:")
    return f".layers/{digits[:2]}/{digits}"


class Layers(PublishObserver):
    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def layer(self, name: str, size: int, *, kept: bool):  # type: ignore[no-untyped-def]
        self.seen.append((name.partition(": ")[2][:7], kept))
        return lambda _count: None


def test_shared_layers_are_merged_without_their_bytes(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    first = Built([LOWER])
    repository.publish(f"oci:{first.write_layout(tmp_path / 'one')}", place="r.example/x:1")
    second = Built([LOWER, UPPER])
    layout = second.write_layout(tmp_path / "two")
    shared = second.layer_descriptors[0]["digest"].removeprefix("sha256:")
    (layout / "blobs/sha256" / shared).unlink()  # a read of this layer would fail
    layers = Layers()
    repository.publish(f"oci:{layout}", place="r.example/x:2", observer=layers)
    assert layers.seen == [("layer 0", True), ("layer 1", False)]
    listed = Listed(open_tree(repository.path), second.flat)
    assert sorted(listed.entries) == [b"etc", b"etc/c"]
    assert repository.check().bad == 0


def test_the_same_image_by_another_way_changes_nothing(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    plain = Built([LOWER, UPPER], how="none")
    repository.publish(f"oci:{plain.write_layout(tmp_path / 'plain')}", place="r.example/x:1")
    before = repository.files()
    archive = plain.write_archive(tmp_path / "saved.tar", [LOWER, UPPER], ["r.example/x:1"])
    report = repository.publish(f"docker-archive:{archive}")
    assert report.places == {f"docker-archive:{archive}": "r.example/x:1"}
    changed = {path.parent.parent.name for path in set(repository.files()) - set(before)}
    assert changed <= {"data", "store"}  # new: manifest.json, catalogs, the pointer
    assert report.new_objects <= 6


def test_single_layers_are_in_the_tree_as_overlayfs_keeps_them(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    image = Built([LOWER, UPPER])
    repository.publish(f"oci:{image.write_layout(tmp_path / 'i')}", place="r.example/x:1")
    tree = open_tree(repository.path)
    lower = Listed(tree, layer_path(image.diff_ids[0]) + "/layerfs")
    assert sorted(lower.entries) == [b"etc", b"etc/a", b"etc/b", b"gone"]
    upper = Listed(tree, layer_path(image.diff_ids[1]) + "/layerfs")
    assert sorted(upper.entries) == [b"etc", b"etc/a", b"etc/c", b"gone"]
    for name in (b"etc/a", b"gone"):
        assert stat.S_ISCHR(upper.entries[name].mode)
        assert upper.entries[name].detail == 0
    assert dict(upper.entries[b"etc"].xattrs) == {
        b"trusted.overlay.opaque": b"y",
        b"user.overlay.opaque": b"y",
    }
