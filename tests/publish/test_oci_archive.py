"""The forms of oci-archives: as skopeo writes them, compressed, from a pipe, with several images, damaged."""

import gzip
import subprocess
import tarfile
from pathlib import Path

import pytest

from lazyfs.core.errors import BadData, LazyfsError, UsageError
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import LAZYFS
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

LAYERS = [layer(entry("a", data=b"a" * 9000)), layer(entry("b"), entry(".wh.a"))]
REFERENCE = "r.example/team/app:7"


def archive_of(image: Built, directory: Path, *tags: str) -> Path:
    """Makes an oci-archive of the image: with one tag by skopeo, with several tags by GNU tar from a
    layout."""
    path = directory / "saved.tar"
    layout = image.write_layout(directory / "layout", *tags[:1])
    if len(tags) == 1:
        target = f"oci-archive:{path}:{tags[0]}"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:{tags[0]}", target], check=True)
    else:
        for tag in tags[1:]:
            other = f"oci:{layout}:{tag}"
            subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:{tags[0]}", other], check=True)
        subprocess.run(["tar", "-C", str(layout), "-cf", str(path), "."], check=True)
    return path


def names(repository: Repository, image: Built) -> list[bytes]:
    return sorted(Listed(open_tree(repository.path), image.flat).entries)


def test_what_skopeo_writes(tmp_path: Path) -> None:
    image = Built(LAYERS)
    archive = archive_of(image, tmp_path, REFERENCE)
    repository = Repository(tmp_path)
    report = repository.publish(f"oci-archive:{archive}")
    assert list(report.places.values()) == [REFERENCE]
    assert names(repository, image) == [b"b"]
    assert repository.check().bad == 0
    assert not repository.publish(f"oci-archive:{archive}:{REFERENCE}").changed


@pytest.mark.parametrize("compressed", [False, True])
def test_from_a_pipe(tmp_path: Path, compressed: bool) -> None:
    image = Built(LAYERS)
    archive = archive_of(image, tmp_path, REFERENCE).read_bytes()
    repository = Repository(tmp_path)
    command = [*LAZYFS, "publish", "oci-archive:-", str(repository.path), "--keys", str(repository.keys_path)]
    given = gzip.compress(archive, 1) if compressed else archive
    subprocess.run([*command, "--plain"], input=given, check=True, capture_output=True)
    assert names(repository, image) == [b"b"]


def test_one_of_several_images(tmp_path: Path) -> None:
    image = Built(LAYERS)
    archive = archive_of(image, tmp_path, "one", "two")
    repository = Repository(tmp_path)
    with pytest.raises(UsageError, match=r"a name is needed.*the layout has: one, two"):
        repository.publish(f"oci-archive:{archive}")
    for which in ("two", "@1"):
        report = repository.publish(f"oci-archive:{archive}:{which}")
        assert list(report.places.values()) == ["localhost/saved-tar:two"]


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    image = Built(LAYERS)
    layout = image.write_layout(tmp_path / "layout")
    digest = image.layer_descriptors[0]["digest"].removeprefix("sha256:")
    (layout / "blobs/sha256" / digest).unlink()
    subprocess.run(["tar", "-C", str(layout), "-cf", f"{tmp_path}/saved.tar", "."], check=True)
    with pytest.raises(UsageError, match=f"layer 0.*the archive has no blobs/sha256/{digest}"):
        Repository(tmp_path).publish(f"oci-archive:{tmp_path}/saved.tar", place=REFERENCE)


def test_a_changed_blob_is_refused(tmp_path: Path) -> None:
    image = Built(LAYERS, how="none")
    archive = archive_of(image, tmp_path, "one", "two")
    data = archive.read_bytes()
    assert b"a" * 9000 in data
    archive.write_bytes(data.replace(b"a" * 9000, b"a" * 8999 + b"b"))
    with pytest.raises(BadData, match="digest"):
        Repository(tmp_path).publish(f"oci-archive:{archive}:one", place=REFERENCE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * 2000, "not a tar archive"),
        (b"\x1f\x8b" + b"x" * 2000, "damaged gzip data"),
        (layer(entry("other", tarfile.DIRTYPE)), "the archive has no index.json"),
        (layer(entry("index.json", data=b"[]")), "index.json"),
        (layer(entry("index.json", data=b"{}"))[:700], "truncated"),
    ],
)
def test_what_is_no_archive_of_a_layout(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(LazyfsError, match=reason) as caught:
        Repository(tmp_path).publish(f"oci-archive:{tmp_path}/bad.tar", place=REFERENCE)
    assert str(caught.value).startswith(f"oci-archive:{tmp_path}/bad.tar: ")
