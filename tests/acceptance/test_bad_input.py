"""Bad input gives a non-zero exit code and one error line, which says how to correct the input. It leaves no
half-done work."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from tests.support.cli import LAZYFS, lazyfs, mounted, new_repository
from tests.support.umoci_layout import layout_of

pytestmark = pytest.mark.root
HIDE_FUSE = """
mount -t tmpfs none /mnt && mknod -m 666 /mnt/null c 1 3 && mknod -m 666 /mnt/urandom c 1 9
mount --move /mnt /dev
exec "$@"
"""


def refused(done: "subprocess.CompletedProcess[str]", *words: str) -> str:
    """Returns the error line of a failed command. Asserts that this line contains all the words. Progress
    lines may precede it."""
    assert done.returncode not in (0, None)
    *progress, line = done.stderr.strip().splitlines()
    assert line.startswith("lazyfs: "), done.stderr
    assert not [said for said in progress if said.startswith(("lazyfs: ", "Traceback", " "))], done.stderr
    for word in words:
        assert word in line, f"{word!r} is missing in: {line}"
    return line


def snapshot(store: Path) -> dict[str, bytes]:
    """Returns all published files of a store: everything but the lock and the leases of publishers."""
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if path.name not in (".lock", "collection.json")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(os.urandom(300_000))
    return tmp_path / "tree"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return new_repository(tmp_path)[0]


def publish(source: str, store: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return lazyfs("publish", source, store, "--keys", store.parent / "keys", *options, check=False)


def test_a_truncated_tar(tree: Path, store: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(tree, ".")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:200_000])
    before = snapshot(store)
    refused(publish(f"tar:{cut}", store, "--as", "tree"), "cut.tar")
    metadata = {name: data for name, data in snapshot(store).items() if "/metadata/" in name}
    assert metadata == {name: data for name, data in before.items() if "/metadata/" in name}
    assert not [name for name in snapshot(store) if "tmp" in Path(name).name]
    lazyfs("check", store)


def test_what_is_no_image(store: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    before = snapshot(store)
    refused(publish(f"tar:{tmp_path / 'noise'}", store, "--as", "x"), "noise")
    refused(publish(f"docker-archive:{tmp_path / 'noise'}", store, "--as", "r.example/x:1"), "noise")
    refused(publish(f"oci:{tmp_path}", store, "--as", "r.example/x:1"), str(tmp_path))
    refused(publish(f"ocy:{tmp_path}", store), "ocy:")
    refused(publish(f"dir:{tmp_path / 'absent'}", store, "--as", "x"), "absent")
    assert snapshot(store) == before


def test_a_layer_whose_bytes_do_not_match_its_digest(tree: Path, store: Path, tmp_path: Path) -> None:
    layout = layout_of(tree, tmp_path)
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((layout / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_text())
    layer = layout / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    damaged = bytearray(layer.read_bytes())
    damaged[-20] ^= 1
    layer.chmod(0o644)
    layer.write_bytes(damaged)
    before = {name: data for name, data in snapshot(store).items() if "/metadata/" in name}
    refused(
        publish(f"oci:{layout}:latest", store, "--as", "r.example/x:1"), manifest["layers"][0]["digest"][7:19]
    )
    assert {name: data for name, data in snapshot(store).items() if "/metadata/" in name} == before


def test_an_unknown_tag(tree: Path, store: Path, tmp_path: Path) -> None:
    layout = layout_of(tree, tmp_path)
    refused(publish(f"oci:{layout}:newest", store, "--as", "r.example/x:1"), "newest", "latest")


def test_a_missing_repository(tree: Path, tmp_path: Path) -> None:
    refused(publish(f"dir:{tree}", tmp_path / "nowhere", "--as", "x"), "nowhere", "repo init")
    refused(lazyfs("check", tmp_path / "nowhere", check=False), "nowhere")
    (tmp_path / "mnt").mkdir()
    cache = ["--cache", str(tmp_path / "cache")]
    refused(lazyfs("mount", tmp_path / "nowhere", tmp_path / "mnt", *cache, check=False), "nowhere")
    url = f"http://127.0.0.1:{free_port()}"
    trust = ["--trust", "0" * 64]
    refused(lazyfs("mount", url, tmp_path / "mnt", *cache, *trust, check=False), url)
    assert not os.path.ismount(tmp_path / "mnt")


def test_a_busy_mount_point(store: Path, tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path / "cache")]
    with mounted(store, tmp_path / "mnt", *cache) as mountpoint:
        refused(lazyfs("mount", store, mountpoint, *cache, check=False), str(mountpoint), "umount")
        assert os.path.ismount(mountpoint)
    (tmp_path / "file").write_text("")
    refused(lazyfs("mount", store, tmp_path / "file", *cache, check=False), "file")
    refused(lazyfs("mount", store, tmp_path / "absent", *cache, check=False), "absent")
    refused(lazyfs("umount", tmp_path / "absent", check=False), "absent")


def test_no_fuse_device(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    command = [*LAZYFS, "mount", str(store), str(tmp_path / "mnt"), "--cache", str(tmp_path / "cache")]
    hidden = ["unshare", "-m", "sh", "-c", HIDE_FUSE, "sh", *command]
    done = subprocess.run(hidden, capture_output=True, text=True, timeout=60, check=False)
    refused(done, "/dev/fuse", "modprobe fuse")


def test_a_wrong_key(store: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = new_repository(tmp_path / "other")
    (tmp_path / "mnt").mkdir()
    for trust in (other / "metadata/1.root.json", "0" * 64):
        options = ["--cache", str(tmp_path / "cache"), "--trust", str(trust)]
        refused(lazyfs("mount", store, tmp_path / "mnt", *options, check=False), str(store), "--trust")
    assert not os.path.ismount(tmp_path / "mnt")


def test_an_unusable_cache_directory(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, 65534)
    for name in ("file", "theirs"):
        cache = tmp_path / name
        refused(lazyfs("mount", store, tmp_path / "mnt", "--cache", cache, check=False), str(cache))
    assert not os.path.ismount(tmp_path / "mnt")
