import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from lazyfs.demo.layout import Layout, unpack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Makes a tree of a file, a hardlink to it, a symbolic link and a program."""
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "sub/file").write_bytes(b"content" * 1000)
    os.link(top / "sub/file", top / "sub/second")
    (top / "link").symlink_to("sub/file")
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o4777)
    return top


def write(directory: Path, tree: Path) -> Layout:
    layout = Layout(str(directory))
    layout.add_layer([f"{tree}/sub/file", f"{tree}/sub/second"])
    layout.add_layer([f"{tree}/link", f"{tree}/program"], {"/opt/made": b"only in the image"})
    layout.finish("tag", {"Cmd": ["/opt/made"]})
    return layout


def compressed(layout: Layout) -> Iterator[BinaryIO]:
    """Yields a stream of the compressed bytes of each layer, as a download from a server would be."""
    for path in layout.layer_files():
        with open(path, "rb") as layer:
            yield layer


def test_other_tools_unpack_what_is_written(tmp_path: Path, tree: Path) -> None:
    write(tmp_path / "layout", tree)
    target = tmp_path / "bundle"
    rootless = ["--rootless"] if os.geteuid() else []
    subprocess.run(
        ["umoci", "unpack", *rootless, "--image", f"{tmp_path}/layout:tag", str(target)],
        check=True,
        timeout=60,
    )
    inside = target / "rootfs" / str(tree).lstrip("/")
    assert (inside / "sub/second").read_bytes() == b"content" * 1000
    assert os.readlink(inside / "link") == "sub/file"
    assert (inside / "program").stat().st_mode & 0o7777 == 0o755
    assert (target / "rootfs/opt/made").read_bytes() == b"only in the image"
    assert (target / "rootfs/tmp").stat().st_mode & 0o7777 == 0o1777


def test_every_digest_and_size_is_right(tmp_path: Path, tree: Path) -> None:
    layout = write(tmp_path / "layout", tree)
    blobs = tmp_path / "layout/blobs/sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = json.loads((tmp_path / "layout/index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        packed = (blobs / layer["digest"][7:]).read_bytes()
        assert layer["size"] == len(packed)
        assert "sha256:" + hashlib.sha256(gzip.decompress(packed)).hexdigest() == diff_id
    assert layout.compressed_bytes == sum(layer["size"] for layer in manifest["layers"])
    assert (layout.files, layout.plain_bytes) == (5, 14000 + 10 + 17)


def test_equal_files_make_equal_images(tmp_path: Path, tree: Path) -> None:
    write(tmp_path / "first", tree)
    write(tmp_path / "second", tree)
    assert (tmp_path / "first/index.json").read_bytes() == (tmp_path / "second/index.json").read_bytes()


def test_unpacking_gives_the_tree_back(tmp_path: Path, tree: Path) -> None:
    layout = write(tmp_path / "layout", tree)
    unpack(compressed(layout), str(tmp_path / "out"))
    assert (tmp_path / "out" / str(tree).lstrip("/") / "link").read_bytes() == b"content" * 1000


def test_files_lie_where_they_are_placed(tmp_path: Path, tree: Path) -> None:
    layout = Layout(str(tmp_path / "layout"))
    layout.add_layer([f"{tree}/program"], path_in_image=lambda path: path.replace(str(tree), "/opt/x"))
    layout.finish("tag", {})
    unpack(compressed(layout), str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/opt/x/program").read_text() == "#!/bin/sh\n"
