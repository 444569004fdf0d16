"""Exported layers keep the diff_ids of the tools that made them, and the image keeps its id."""

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.images.exports.output_file import ArchiveWriter
from tests.support.exporting import PLACE, export_image
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository


def tree(directory: Path) -> Path:
    """Makes files with long names, links and attributes, for which tar formats (GNU, pax) write different
    headers. Returns the directory with the files."""
    root = directory / "root"
    (root / "folder" / ("l" * 150)).mkdir(parents=True)
    (root / "folder" / ("l" * 150) / "file").write_bytes(b"x" * 1000)
    (root / "folder/é").write_bytes(b"accent")
    os.link(root / "folder/é", root / "folder/link")
    (root / "folder/symbolic").symlink_to("../" + "t" * 120)
    os.setxattr(root / "folder/é", "user.kind", b"\xff\0")
    return root


def umoci_layout(directory: Path) -> Path:
    """Makes an image of two layers with umoci, under the tag `made`; returns its layout."""
    layout = directory / "layout"
    image = f"{layout}:made"
    for command in (
        ["init", "--layout", str(layout)],
        ["new", "--image", image],
        ["unpack", "--image", image, str(directory / "bundle")],
    ):
        subprocess.run(["umoci", "--log=error", *command], check=True)
    source = tree(directory)
    for name in ("opt", "srv"):
        subprocess.run(["cp", "-a", str(source), str(directory / "bundle/rootfs" / name)], check=True)
        repack = ["repack", "--refresh-bundle", "--image", image, str(directory / "bundle")]
        subprocess.run(["umoci", "--log=error", *repack], check=True)
    return layout


def buildah_layout(directory: Path) -> Path:
    """Makes an image of two layers with buildah, under the tag `made`; returns its layout."""
    tree(directory)
    (directory / "Containerfile").write_text("FROM scratch\nCOPY root /opt\nCOPY root/folder /srv\n")
    storage = ["--storage-driver=vfs", f"--root={directory}/storage", f"--runroot={directory}/run"]
    build = ["bud", "--quiet", "--isolation=chroot", "--layers", "-t", "made", str(directory)]
    for command in (build, ["push", "--quiet", "made", f"oci:{directory}/layout:made"]):
        subprocess.run(["buildah", *storage, *command], check=True, capture_output=True)
    return directory / "layout"


def check_original(directory: Path, layout: Path) -> None:
    repository = Repository(directory)
    repository.publish(f"oci:{layout}:made", place=PLACE)
    report = export_image(repository, f"oci-archive:{directory}/exported.tar").image
    assert report is not None
    assert len(report.layers) >= 2
    assert all(written.original for written in report.layers)
    copied = ["copy", "-q", f"oci-archive:{directory}/exported.tar", f"oci:{directory}/copy:made"]
    subprocess.run(["skopeo", *copied], check=True)  # compares the digests of all
    assert image_id(directory / "copy") == image_id(layout)


def image_id(layout: Path) -> str:
    inspect = ["skopeo", "inspect", "--raw", f"oci:{layout}:made"]
    said = subprocess.run(inspect, check=True, capture_output=True).stdout
    return str(json.loads(said)["config"]["digest"])


@pytest.mark.root
def test_layers_of_umoci(tmp_path: Path) -> None:
    check_original(tmp_path, umoci_layout(tmp_path))


@pytest.mark.root
@pytest.mark.long
def test_layers_of_buildah(tmp_path: Path) -> None:
    check_original(tmp_path, buildah_layout(tmp_path))


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_a_layer_of_another_tool_gets_a_diff_id_of_its_own(tmp_path: Path, form: str) -> None:
    """These layers are written by Python's tarfile, whose padding at the end lazyfs does not reproduce. So
    the exported image has other diff_ids and another id. They must be consistent: the second publish compares
    all digests."""
    repository = Repository(tmp_path)
    foreign = layer(entry("a", data=b"1"))
    image = Built([foreign, foreign, layer(entry("b"))], history=[{"created_by": str(n)} for n in range(3)])
    repository.publish(f"oci:{image.write_layout(tmp_path / 'layout')}", place=PLACE)
    written = export_image(repository, f"{form}:{tmp_path}/exported").image
    assert written is not None
    assert [layer.original for layer in written.layers] == [False] * 3
    assert written.layers[0].diff_id == written.layers[1].diff_id
    repository.publish(f"{form}:{tmp_path}/exported", place="r.example/again:1")
    again = export_image(repository, f"oci:{tmp_path}/again", place="r.example/again:1").image
    assert again is not None
    assert again.config == written.config
    assert all(layer.original for layer in again.layers)


def test_a_link_to_a_lower_layer_carries_the_mode_of_its_file(tmp_path: Path) -> None:
    """Docker and podman refuse the layer if the header of a hardlink has another mode."""
    repository = Repository(tmp_path)
    lower = layer(entry("tool", data=b"old", mode=0o600), entry("tool", data=b"x", mode=0o4755, uid=7))
    upper = layer(entry("again", tarfile.LNKTYPE, linkname="tool"))
    middle = layer(entry("tool", data=b"y", mode=0o755, uid=8))
    layout = Built([lower, middle, upper]).write_layout(tmp_path / "layout")
    repository.publish(f"oci:{layout}", place=PLACE)
    written = export_image(repository, f"docker-archive:{tmp_path}/exported.tar").image
    assert written is not None
    with tarfile.open(tmp_path / "exported.tar") as archive:
        last = archive.extractfile(f"{written.layers[2].diff_id.hex()}.tar")
        with tarfile.open(fileobj=last) as inner:
            link = inner.getmember("again")
    assert (link.type, link.linkname, link.mode, link.uid) == (tarfile.LNKTYPE, "tool", 0o755, 8)


def test_a_file_that_is_given_up_leaves_nothing_in_an_archive(tmp_path: Path) -> None:
    def given_up() -> Iterator[bytes]:
        yield bytes(100_000)
        raise KeyError

    made = []
    for name in ("clean", "given-up"):
        with open(tmp_path / name, "w+b", buffering=0) as file:
            archive = ArchiveWriter(file)
            if name == "given-up":
                with pytest.raises(KeyError):
                    archive.add_stream("blobs/", given_up())
            archive.add_stream("blobs/", [b"kept"])
            archive.end()
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
