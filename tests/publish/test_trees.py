"""Trees that are not images: directories, and archives of directories, are published unchanged."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.catalog_listing import Listed, open_tree
from tests.support.repositories import Repository


@pytest.mark.root
@pytest.mark.parametrize("how", ["dir", "tar", "gzip", "zstd"])
def test_a_tree_is_published_as_it_is(how: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_bytes(b"content")
    (source / "sub/large").write_bytes(os.urandom((2 << 20) + 17))
    (source / "empty").touch()
    os.link(source / "sub/file", source / "again")
    (source / "link").symlink_to("sub")
    (source / ".wh.literal").write_text("a file like any other here")
    os.mkfifo(source / "pipe", 0o600)
    os.mknod(source / "device", 0o20640, os.makedev(5, 1))
    os.setxattr(source / "sub", "user.note", b"\xff\0")
    os.chown(source / "empty", 1000, 1001)
    os.utime(source / "sub", ns=(0, 1_234_567_890_123_456_789))
    name = f"dir:{source}"
    if how != "dir":
        archive = tmp_path / "archive"
        options = [] if how == "tar" else [f"--{how}"]
        subprocess.run(
            ["tar", "--xattrs", "--format=posix", *options, "-C", source, "-cf", archive, "."], check=True
        )
        name = f"tar:{archive}"
    repository = Repository(tmp_path)
    repository.publish(name, place="trees/x")
    listed = Listed(open_tree(repository.path), "trees/x")
    assert listed.listing() == trees.listing(source)
    assert listed.hardlink_groups() == trees.hardlink_groups(source)
    assert listed.xattrs() == trees.xattrs(source)
    assert listed.digests() == trees.digests(source)
    assert repository.check().bad == 0


def test_sockets_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        repository = Repository(tmp_path)
        repository.publish(f"dir:{source}", place="x")
    assert sorted(Listed(open_tree(repository.path), "x").entries) == [b"file"]
