"""`lazyfs export` as an operator types it: from a store, a URL and a mount, for other tools to read, with
its reports and errors."""

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from lazyfs.repository.diff import diff, resolve
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import LAZYFS, lazyfs, mounted, serving
from tests.support.exporting import PLACE
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

LOWER = layer(
    entry("bin", tarfile.DIRTYPE),
    entry("bin/tool", data=b"#!/bin/sh\n", mode=0o4755, uid=5, gid=6, mtime=1_700_000_000),
    entry("bin/same", tarfile.LNKTYPE, linkname="bin/tool", mode=0o4755),
    entry("gone", data=b"gone"),
    entry("large", data=os.urandom(3 << 20)),
    entry("link", tarfile.SYMTYPE, linkname="/etc/hostname"),
    entry("device", tarfile.CHRTYPE, devmajor=1, devminor=3),
    entry("kept", data=b"kept", pax={"SCHILY.xattr.user.color": "blue"}),
)
UPPER = layer(entry(".wh.gone"), entry("new", data=b"new"))
CONFIG = {"Cmd": ["/bin/tool"], "Env": ["A=b"]}


class Site(NamedTuple):
    """A repository with an image and a tree, and its keys."""

    directory: Path
    repository: Repository

    @property
    def store(self) -> Path:
        return self.repository.path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("site")
    repository = Repository(directory)
    layout = Built([LOWER, UPPER], config=CONFIG).write_layout(directory / "layout")
    keys = ["--keys", str(repository.keys_path)]
    lazyfs("publish", f"oci:{layout}", repository.path, "--as", PLACE, *keys)
    (directory / "software").mkdir()
    (directory / "software/file").write_bytes(b"software")
    lazyfs("publish", f"dir:{directory}/software", repository.path, "--as", "software/2026", *keys)
    return Site(directory, repository)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes the working directory to an empty one; returns that directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def publish_again(site: Site, source: str, place: str) -> None:
    """Publishes the export `source` at `place`. Asserts that its tree equals that of the exported image."""
    lazyfs("publish", source, site.store, "--as", place, "--keys", site.repository.keys_path)
    tree = open_tree(site.store)
    old, new = resolve(tree, PLACE), resolve(tree, place)
    assert not list(diff(old, new))
    assert Listed(tree, new.path).hardlink_groups() == {frozenset((b"bin/same", b"bin/tool"))}


def test_from_a_store_with_json(site: Site, here: Path) -> None:
    done = lazyfs("export", PLACE, site.store, "oci:out", "--json")
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert (report["image"], report["target"]) == (PLACE, "oci:out")
    assert [set(one) for one in report["layers"]] == [{"diff_id", "original"}] * 2
    raw = subprocess.run(["skopeo", "inspect", "--raw", "oci:out:1"], check=True, capture_output=True)
    assert json.loads(raw.stdout)["config"]["digest"] == report["id"]
    publish_again(site, "oci:out", "r.example/store:1")


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_other_tools_read_the_archives(site: Site, here: Path, form: str) -> None:
    lazyfs("export", PLACE, site.store, f"{form}:out.tar")
    suffix = f":{PLACE}" if form == "docker-archive" else ""
    subprocess.run(["skopeo", "copy", "-q", f"{form}:out.tar{suffix}", "oci:copy:made"], check=True)
    subprocess.run(["umoci", "--log=error", "unpack", "--image", "copy:made", "bundle"], check=True)
    rootfs = here / "bundle/rootfs"
    assert (rootfs / "bin/same").samefile(rootfs / "bin/tool")
    assert (rootfs / "new").read_bytes() == b"new"
    assert not (rootfs / "gone").exists()
    config = json.loads(
        subprocess.run(
            ["skopeo", "inspect", "--config", f"{form}:out.tar{suffix}"], check=True, capture_output=True
        ).stdout
    )
    assert config["config"] == CONFIG


def test_a_second_image_joins_a_layout(site: Site, here: Path) -> None:
    lazyfs("export", PLACE, site.store, "oci:out")
    lazyfs("export", "software/2026", site.store, "oci:out")
    lazyfs("export", PLACE, site.store, "oci:out")
    names = [
        one["annotations"]["io.containerd.image.name"]
        for one in json.loads((here / "out/index.json").read_bytes())["manifests"]
    ]
    assert sorted(names) == [PLACE, "software/2026"]
    (here / "other").mkdir()
    (here / "other/file").touch()
    done = lazyfs("export", PLACE, site.store, "oci:other", check=False)
    assert done.returncode == 2
    assert done.stderr == "lazyfs: other has files, and is no OCI image layout: choose another\n"


@pytest.mark.root
def test_from_a_mount(site: Site, here: Path) -> None:
    root = str(site.store / "metadata/1.root.json")
    options = ["--trust", root, "--cache", str(here / "cache")]
    with serving(site.store) as url, mounted(url, here / "mnt", *options) as mount:
        done = lazyfs("export", PLACE, mount, "oci-archive:out.tar")
        lazyfs("export", PLACE, mount, "sif:out.sif")
        tree = subprocess.run([*LAZYFS, "export", PLACE, mount, "tar:-"], check=True, capture_output=True)
        missing = lazyfs("export", "r.example/none:1", mount, "tar:none", check=False)
    assert done.stdout.startswith(f"{PLACE} -> oci-archive:out.tar: ")
    assert "1 layers, 0 of them with the diff_id of their source" in done.stdout
    assert missing.returncode == 2
    assert "r.example/none:1" in missing.stderr
    assert f"{PLACE} -> tar:-".encode() in tree.stderr
    (here / "tree.tar").write_bytes(tree.stdout)
    publish_again(site, "tar:tree.tar", "mount/tree")
    publish_again(site, "oci-archive:out.tar", "r.example/mount:1")
    publish_again(site, "sif:out.sif", "r.example/mount:2")


def test_from_a_url_with_trust(site: Site, here: Path) -> None:
    root = site.store / "metadata/1.root.json"
    with serving(site.store) as url:
        lazyfs("export", PLACE, url, "oci-archive:out", "--trust", root, "--cache", here / "cache")
        refused = lazyfs("export", PLACE, url, "tar:other", "--cache", here / "empty", check=False)
    assert refused.returncode
    assert not (here / "other").exists()
    publish_again(site, "oci-archive:out", "r.example/url:1")


def test_what_is_there_is_replaced_only_when_asked(site: Site, here: Path) -> None:
    (here / "out").write_bytes(b"precious")
    done = lazyfs("export", PLACE, site.store, "tar:out", check=False)
    assert done.returncode == 2
    assert done.stderr == "lazyfs: out is there already: choose another name, or --force to replace it\n"
    assert (here / "out").read_bytes() == b"precious"
    lazyfs("export", PLACE, site.store, "tar:out", "--force")
    assert tarfile.is_tarfile(here / "out")
    assert os.listdir(here) == ["out"]


def test_a_full_disk_is_named(site: Site, here: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [*LAZYFS, "export", PLACE, str(site.store), "tar:-"]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"lazyfs: the standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("image", "target", "reason"),
    [
        (PLACE, "zip:out", "zip:out: give the target as oci:DIR, oci-archive:FILE,"),
        (PLACE, "out.sif", "out.sif: give the target as"),
        (PLACE, "sif:-", "only tar: can be written to the standard output"),
        (PLACE, "sif:none/out.sif", "none/out.sif: No such file or directory"),
        ("r.example/none:1", "tar:out", "r.example/none:1 is not in this revision"),
        ("r.example", "tar:out", "is a folder of images"),
        ("", "tar:out", "is a folder of images"),
    ],
)
def test_a_request_that_cannot_be_carried_out(
    site: Site, here: Path, image: str, target: str, reason: str
) -> None:
    done = lazyfs("export", image, site.store, target, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.startswith("lazyfs: ")
    assert done.stderr.count("\n") == 1
    assert os.listdir(here) == []


def test_a_damaged_object_leaves_no_file(site: Site, here: Path) -> None:
    broken = here / "store"
    subprocess.run(["cp", "-r", site.store, broken], check=True)
    largest = max((path for path in broken.glob("data/*/*")), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(data)
    done = lazyfs("export", PLACE, broken, "oci-archive:out", check=False)
    assert done.returncode == 1
    assert largest.name in done.stderr
    assert os.listdir(here) == ["store"]
