"""podman runs images of a mount as if it had pulled them, and unpacks nothing."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cli import lazyfs, mounted, new_repository
from tests.support.oci_images import Built, entry, layer
from tests.support.runtimes import PODMAN_CONF

pytestmark = pytest.mark.root

NAME = "docker.io/library/tool:1"


def built(word: str) -> Built:
    """Returns an image of two layers. The upper layer deletes a file of the lower one."""
    busybox = entry("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    links = [entry(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in ("sh", "cat", "ls")]
    directories = [
        entry(name, tarfile.DIRTYPE) for name in ("bin", "etc", "data", "proc", "dev", "sys", "tmp")
    ]
    lower = layer(*directories, busybox, *links, entry("data/old", data=b"old"))
    upper = layer(entry("data/.wh.old"), entry("data/word", data=f"{word}\n".encode()))
    config = {"Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/data", "Cmd": ["sh", "-c", "cat word"]}
    return Built([lower, upper], config=config)


class Tree(NamedTuple):
    """A mounted repository."""

    work: Path
    repository: Path
    keys: Path
    mount: Path

    def publish(self, word: str, *names: str) -> None:
        layout = built(word).write_layout(self.work / f"layout-{word}")
        for name in names:
            lazyfs("publish", f"oci:{layout}", self.repository, "--as", name, "--keys", self.keys)
        lazyfs("refresh", self.mount)


class Podman(NamedTuple):
    """podman with a main store of its own, and an additional one."""

    work: Path

    @property
    def store(self) -> Path:
        return self.work / "additional"

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.work / "containers.conf").write_text(PODMAN_CONF)
        roots = [f"--root={self.work}/root", f"--runroot={self.work}/run", f"--tmpdir={self.work}/libpod"]
        stores = ["--storage-driver=overlay", "--storage-opt", f"additionalimagestore={self.store}"]
        return subprocess.run(
            ["podman", *roots, *stores, "--runtime=runc", *arguments],
            env={**os.environ, "CONTAINERS_CONF": str(self.work / "containers.conf")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def run(self, image: str, *command: str) -> subprocess.CompletedProcess[str]:
        options = ("--rm", "--pull=never", "--network=none", "--log-driver=none")
        return self("run", *options, image, *command)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    work = tmp_path_factory.mktemp("podman")
    store, keys = new_repository(work)
    options = ("--cache", work / "cache", "--trust", store / "metadata/1.root.json")
    with mounted(store, work / "mnt", *options) as mount:
        made = Tree(work, store, keys, mount)
        made.publish("first", NAME, "docker.io/a/b:2")
        yield made


@pytest.fixture
def podman() -> Iterator[Podman]:
    """Yields a podman in a directory with a short name: it refuses a runroot of more than 50 characters."""
    directory = Path(f"/tmp/p{os.getpid()}")
    directory.mkdir()
    yield Podman(directory)
    subprocess.run(["umount", "--quiet", str(directory / "root/overlay")], check=False)
    shutil.rmtree(directory)


def test_podman_runs_an_image_of_the_mount_and_unpacks_nothing(tree: Tree, podman: Podman) -> None:
    done = lazyfs("podman-store", podman.store, "library/tool:1")
    assert done.stdout == (
        f"podman --storage-opt additionalimagestore={podman.store} run --pull=never {NAME}\n"
    )
    assert podman.run(NAME).stdout == "first\n"  # environment, directory and command are the image's
    done = podman.run("library/tool:1", "sh", "-c", "echo $GREETING; ls; echo x >/data/new; ls; exit 7")
    assert (done.stdout, done.returncode) == ("hello\nword\nnew\nword\n", 7), done.stderr
    unpacked = [path for path in (podman.work / "root").rglob("*") if path.name in ("busybox", "word")]
    assert unpacked == []
    assert sum(path.lstat().st_size for path in podman.store.rglob("*") if path.is_file()) < 10_000
    (listed,) = json.loads(podman("images", "--format=json").stdout)
    assert (listed["Names"], listed["ReadOnly"]) == ([NAME], True)


def test_a_tag_that_moves_is_followed_when_it_is_asked_for(tree: Tree, podman: Podman) -> None:
    moving = "docker.io/library/moving:1"
    tree.publish("first", moving)
    lazyfs("podman-store", podman.store, moving)
    tree.publish("second", moving)
    assert podman.run(moving).stdout == "first\n"
    lazyfs("podman-store", podman.store, moving)
    assert podman.run(moving).stdout == "second\n"
    assert len(json.loads((podman.store / "overlay-images/images.json").read_text())) == 1


def test_several_images_and_names_share_a_store(tree: Tree, podman: Podman) -> None:
    tree.publish("other", "docker.io/library/other:1")
    lazyfs("podman-store", podman.store, NAME, "library/other:1")
    lazyfs("podman-store", podman.store, "a/b:2")
    lazyfs("podman-store", podman.store, NAME)  # once more
    for name, word in ((NAME, "first"), ("docker.io/a/b:2", "first"), ("library/other:1", "other")):
        assert podman.run(name).stdout == f"{word}\n"
    found = json.loads((podman.store / "overlay-images/images.json").read_text())
    assert sorted(sorted(image["names"]) for image in found) == [
        ["docker.io/a/b:2", NAME],
        ["docker.io/library/other:1"],
    ]
    assert len(json.loads((podman.store / "overlay-layers/layers.json").read_text())) == 2


def test_what_is_pulled_takes_no_layer_of_the_mount_for_its_own(tree: Tree, podman: Podman) -> None:
    """podman stores both layers of a pulled image in its main store and checks their digests, although the
    mount has one of them."""
    lazyfs("podman-store", podman.store, NAME)
    layout = built("third").write_layout(podman.work / "pulled")
    pulled = podman("pull", "--quiet", f"oci:{layout}:v1")
    assert pulled.returncode == 0, pulled.stderr
    done = podman.run(pulled.stdout.strip())
    assert (done.stdout, done.stderr) == ("third\n", "")
    layers = json.loads((podman.work / "root/overlay-layers/layers.json").read_text())
    assert {one["diff-digest"] for one in layers} == set(built("third").diff_ids)


def test_bad_input_is_one_line(tree: Tree, podman: Podman, tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        done = lazyfs("podman-store", *arguments, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        return done.stderr

    (tmp_path / "directory").mkdir()
    assert "has no manifest in its tree; give its name" in refused(podman.store, tmp_path / "directory")
    assert "not found in" in refused(podman.store, "library/none")
    (tmp_path / "file").touch()
    assert f"store {tmp_path}/file" in refused(tmp_path / "file", NAME)
    (podman.store / "overlay-layers").mkdir(parents=True)
    (podman.store / "overlay-layers/layers.json").write_text("{")
    assert "is no list of podman's; take another directory" in refused(podman.store, NAME)
