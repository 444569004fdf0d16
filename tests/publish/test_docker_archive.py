"""The forms of docker-archives: as skopeo writes them, compressed, with links between layers, with several
images."""

import gzip
import json
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from lazyfs.core.errors import BadData, FormatError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.images.sources.docker_archive import DockerArchive
from tests.support.catalog_listing import Listed, open_tree
from tests.support.oci_images import TAG, Built, entry, layer
from tests.support.repositories import Repository

LAYERS = [layer(entry("a", data=b"a" * 9000)), layer(entry("b"), entry(".wh.a"))]


def test_what_skopeo_writes(tmp_path: Path) -> None:
    image = Built(LAYERS)
    archive = tmp_path / "saved.tar"
    layout = image.write_layout(tmp_path / "layout")
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{layout}:{TAG}", f"docker-archive:{archive}:r.example/team/app:7"],
        check=True,
    )
    repository = Repository(tmp_path)
    report = repository.publish(f"docker-archive:{archive}")
    assert list(report.places.values()) == ["r.example/team/app:7"]
    tree = open_tree(repository.path)
    link = tree.find("r.example/team/app:7")
    assert link is not None
    flat = link.entry.content.decode().removeprefix("../../")
    assert sorted(Listed(tree, flat).entries) == [b"b"]
    assert repository.check().bad == 0


def test_compressed_archive(tmp_path: Path) -> None:
    image = Built(LAYERS, how="none")
    archive = image.write_archive(tmp_path / "saved.tar", LAYERS, ["r.example/app:1"])
    compressed = tmp_path / "saved.tar.gz"
    compressed.write_bytes(gzip.compress(archive.read_bytes()))
    repository = Repository(tmp_path)
    repository.publish(f"docker-archive:{compressed}")
    assert sorted(Listed(open_tree(repository.path), image.flat).entries) == [b"b"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_equal_layers_as_links(kind: bytes, tmp_path: Path) -> None:
    image = Built([LAYERS[0], LAYERS[0]], how="none")
    config = image.blobs[image.config["digest"]]
    target = "../one/layer.tar" if kind == tarfile.SYMTYPE else "one/layer.tar"
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}]
    archive = tmp_path / "saved.tar"
    archive.write_bytes(
        layer(
            entry("c.json", data=config),
            entry("one/layer.tar", data=LAYERS[0]),
            entry("two/layer.tar", kind, linkname=target),
            entry("manifest.json", data=json.dumps(manifest).encode()),
        )
    )
    repository = Repository(tmp_path)
    repository.publish(f"docker-archive:{archive}", place="r.example/app:1")
    assert sorted(Listed(open_tree(repository.path), image.flat).entries) == [b"a"]
    with pytest.raises(UsageError, match="give one with --as"):
        repository.publish(f"docker-archive:{archive}")


def test_one_of_several_images_is_named(tmp_path: Path) -> None:
    first, second = Built(LAYERS[:1], how="none"), Built(LAYERS, how="none")
    files = [entry("l1", data=LAYERS[0]), entry("l2", data=LAYERS[1])]
    manifest = []
    for image, name, layers in ((first, "x:1", ["l1"]), (second, "x:2", ["l1", "l2"])):
        files.append(entry(f"{name}.json", data=image.blobs[image.config["digest"]]))
        manifest.append({"Config": f"{name}.json", "RepoTags": [f"r.example/{name}"], "Layers": layers})
    archive = tmp_path / "saved.tar"
    archive.write_bytes(layer(*files, entry("manifest.json", data=json.dumps(manifest).encode())))
    repository = Repository(tmp_path)
    with pytest.raises(UsageError, match=r"name one of its images .* has: r.example/x:1, r.example/x:2"):
        repository.publish(f"docker-archive:{archive}")
    repository.publish(f"docker-archive:{archive}:r.example/x:2")
    assert sorted(Listed(open_tree(repository.path), second.flat).entries) == [b"b"]


def test_a_missing_layer_and_a_wrong_one_are_refused(tmp_path: Path) -> None:
    image = Built(LAYERS, how="none")
    repository = Repository(tmp_path)
    before = repository.files()
    archive = image.write_archive(tmp_path / "saved.tar", [LAYERS[0], LAYERS[0]], ["r.example/x:1"])
    with pytest.raises(BadData, match=r"layer 1 .*diff_id"):
        repository.publish(f"docker-archive:{archive}")
    archive.write_bytes(
        archive.read_bytes().replace(b"0" * 63 + b"1/layer.tar", b"0" * 63 + b"9/layer.tar", 1)
    )
    with pytest.raises(BadData, match=r"is missing|wrong checksum"):
        repository.publish(f"docker-archive:{archive}")
    assert repository.files() == before


def archive_of(image: Built, names: list[str], path: Path) -> Path:
    """Writes an archive that has only the first of the layers, and whose manifest has these names of
    layers."""
    manifest = [{"Config": "c.json", "RepoTags": ["r.example/x:1"], "Layers": names}]
    path.write_bytes(
        layer(
            entry("l.tar", data=LAYERS[0]),
            entry("c.json", data=image.blobs[image.config["digest"]]),
            entry("manifest.json", data=json.dumps(manifest).encode()),
        )
    )
    return path


def test_one_file_may_be_the_same_layer_several_times(tmp_path: Path) -> None:
    image = Built([LAYERS[0]] * 3, how="none")
    repository = Repository(tmp_path)
    repository.publish(f"docker-archive:{archive_of(image, ['l.tar'] * 3, tmp_path / 'saved.tar')}")
    assert sorted(Listed(open_tree(repository.path), image.flat).entries) == [b"a"]


def test_one_file_cannot_be_two_layers(tmp_path: Path) -> None:
    image = Built(LAYERS, how="none")
    archive = archive_of(image, ["l.tar", "l.tar"], tmp_path / "saved.tar")
    with pytest.raises(
        FormatError,
        match=rf"{archive}: layer 1 .* cannot have diff_id {image.diff_ids[1]}: .*same file",
    ):
        Repository(tmp_path).publish(f"docker-archive:{archive}")


def test_an_archive_that_loses_a_layer_while_it_is_read_is_refused(tmp_path: Path) -> None:
    image = Built(LAYERS, how="none")
    archive = image.write_archive(tmp_path / "saved.tar", LAYERS, ["r.example/x:1"])
    with closing(DockerArchive(str(archive), Platform("linux", "amd64"))) as opened:
        image.write_archive(archive, LAYERS[:1], ["r.example/x:1"])
        with pytest.raises(FormatError, match=r"layer 1 .* is no longer there"):
            list(map(b"".join, (parts for _, parts in opened.read([0, 1]))))
