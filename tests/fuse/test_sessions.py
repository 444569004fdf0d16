"""The contract of a session: programs see the same through either session."""

import errno
import mmap
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.catalog.inode import Inode
from lazyfs.daemon.session_choice import KINDS
from tests.support.fuse_mount import Mounted, mounted
from tests.support.images import MTIME, Objects, file, folder, image, live

pytestmark = pytest.mark.root

BIG = bytes(range(256)) * 4000
NAMES = ["plain", "with space", "new\nline", "\udcff\udcfe", "ü" * 127, "x" * 255]


def content(objects: Objects) -> dict[str, object]:
    hard = file(objects, b"linked")
    locked = file(objects, b"secret", mode=0o600)
    mine = folder(mode=0o700, uid=1000, gid=1000)
    assert mine.children is not None
    mine.children[b"inside"] = file(objects, b"inside", uid=1000)
    return {
        "bin": {"sh": file(objects, b"shell", mode=0o4755), "bash": "sh", "hard": hard},
        "hard": hard,
        "names": {name: name.encode("utf-8", "surrogateescape") for name in NAMES},
        "many": {f"f{number:05}": b"%d" % number for number in range(3000)},
        "big": BIG,
        "empty": b"",
        "old": file(objects, b"old", mtime=-1_500_000_000),
        "attributes": file(
            objects, b"a", xattrs=((b"trusted.overlay.opaque", b"y"), (b"user.mine", b"\0\xff"))
        ),
        "device": Inode(stat.S_IFCHR | 0o666, mtime=MTIME, detail=1 << 32 | 3),
        "pipe": Inode(stat.S_IFIFO | 0o600, mtime=MTIME),
        "locked": locked,
        "private": mine,
        "dangling": "nowhere/at all",
        "loop": "loop",
    }


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def mount(kind: str, open_path_factory: Path) -> Iterator[Mounted]:
    objects = Objects()
    root = live(
        objects, {"images": {"one:1": image(objects, content(objects), split=500)}, "tag": "images/one:1"}
    )
    directory = open_path_factory / kind
    directory.mkdir()
    with mounted(kind, objects, root, directory) as found:
        yield found


@pytest.fixture
def image_path(mount: Mounted) -> Path:
    return mount.path / "images" / "one:1"


def test_stat_shows_what_the_image_says(image_path: Path) -> None:
    sh = os.lstat(image_path / "bin/sh")
    assert (stat.filemode(sh.st_mode), sh.st_size, sh.st_nlink) == ("-rwsr-xr-x", 5, 1)
    assert sh.st_mtime_ns == MTIME
    assert os.lstat(image_path / "old").st_mtime_ns == -1_500_000_000
    device = os.lstat(image_path / "device")
    assert (stat.S_ISCHR(device.st_mode), device.st_rdev) == (True, os.makedev(1, 3))
    assert stat.S_ISFIFO(os.lstat(image_path / "pipe").st_mode)
    assert (os.stat(image_path / "private").st_uid, os.stat(image_path / "private").st_gid) == (1000, 1000)
    assert os.lstat(image_path).st_nlink == 2 + 4


def test_links(image_path: Path) -> None:
    assert os.readlink(image_path / "bin/bash") == "sh"
    assert (image_path / "bin/bash").read_bytes() == b"shell"
    assert not (image_path / "dangling").exists()
    assert os.readlink(image_path / "dangling") == "nowhere/at all"
    with pytest.raises(OSError, match="Too many levels") as caught:
        (image_path / "loop").read_bytes()
    assert caught.value.errno == errno.ELOOP
    assert (image_path.parent.parent / "tag" / "bin/sh").read_bytes() == b"shell"


def test_hardlinks_share_a_number_across_directories(image_path: Path) -> None:
    one, other = os.lstat(image_path / "hard"), os.lstat(image_path / "bin/hard")
    assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)


def test_a_directory_lists_each_name_once_with_its_type(image_path: Path) -> None:
    assert sorted(os.listdir(image_path / "many")) == [f"f{number:05}" for number in range(3000)]
    assert sorted(os.listdir(image_path / "names")) == sorted(NAMES)
    with os.scandir(image_path) as entries:
        types = {entry.name: entry.is_symlink() for entry in entries}
    assert types["dangling"]
    assert not types["big"]
    listed = subprocess.run(
        ["ls", "-a", image_path / "bin"], capture_output=True, text=True, check=True
    ).stdout
    assert listed.split() == [".", "..", "bash", "hard", "sh"]


def test_listed_numbers_are_those_of_stat(image_path: Path) -> None:
    with os.scandir(image_path) as entries:
        listed = {entry.name: entry.inode() for entry in entries}
    assert listed.keys() >= {"big", "bin", "dangling"}
    assert listed == {name: os.lstat(image_path / name).st_ino for name in listed}


def test_names_are_bytes(image_path: Path) -> None:
    for name in NAMES:
        assert (image_path / "names" / name).read_bytes() == name.encode("utf-8", "surrogateescape")


def test_reads_anywhere_in_a_chunked_file(image_path: Path) -> None:
    with open(image_path / "big", "rb") as big:
        assert big.read() == BIG
        for offset, length in (
            (0, 1),
            (65535, 2),
            (500_000, 200_000),
            (len(BIG) - 3, 100),
            (len(BIG) + 5, 9),
        ):
            assert os.pread(big.fileno(), length, offset) == BIG[offset : offset + length]
        with mmap.mmap(big.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[123_456:123_556] == BIG[123_456:123_556]
    assert (image_path / "empty").read_bytes() == b""


def test_extended_attributes(image_path: Path) -> None:
    path = image_path / "attributes"
    assert os.getxattr(path, "user.mine") == b"\0\xff"
    assert os.getxattr(path, "trusted.overlay.opaque") == b"y"
    assert os.getxattr(path, "user.overlay.opaque") == b"y"
    assert sorted(os.listxattr(path)) == ["trusted.overlay.opaque", "user.mine", "user.overlay.opaque"]
    assert os.listxattr(image_path / "big") == []
    assert os.getxattr(image_path / "big", "user.chunks") == b"16"
    assert os.getxattr(image_path / "bin/sh", "user.image") == b"images/one:1"
    with pytest.raises(OSError, match="No data"):
        os.getxattr(path, "user.none")


def test_what_is_missing(image_path: Path) -> None:
    for path, expected in (
        ("nothing", errno.ENOENT),
        ("bin/nothing", errno.ENOENT),
        ("big/inside", errno.ENOTDIR),
        ("y" * 256, errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
            os.lstat(image_path / path)
        assert caught.value.errno == expected, path


@pytest.mark.parametrize(
    "modify",
    [
        lambda path: os.open(path / "big", os.O_RDWR),
        lambda path: os.open(path / "new", os.O_CREAT | os.O_WRONLY),
        lambda path: os.mkdir(path / "new"),
        lambda path: os.unlink(path / "big"),
        lambda path: os.rmdir(path / "bin"),
        lambda path: os.rename(path / "big", path / "new"),
        lambda path: os.symlink("a", path / "new"),
        lambda path: os.link(path / "big", path / "new"),
        lambda path: os.chmod(path / "big", 0o777),
        lambda path: os.chown(path / "big", 1, 1),
        lambda path: os.utime(path / "big"),
        lambda path: os.truncate(path / "big", 0),
        lambda path: os.mkfifo(path / "new"),
        lambda path: os.setxattr(path / "big", "user.x", b"1"),
        lambda path: os.removexattr(path / "big", "user.x"),
    ],
)
def test_every_modifying_call_is_refused(image_path: Path, modify: object) -> None:
    assert callable(modify)
    with pytest.raises(OSError, match="Read-only file system"):
        modify(image_path)


def as_user(path: Path, *command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*command, os.fspath(path)], capture_output=True, user=65534, group=65534, check=False
    )


def test_modes_are_enforced(image_path: Path) -> None:
    assert as_user(image_path / "bin/sh", "cat").stdout == b"shell"
    refused = as_user(image_path / "locked", "cat")
    assert b"Permission denied" in refused.stderr
    assert as_user(image_path / "private/inside", "cat").returncode != 0


def test_statfs(mount: Mounted) -> None:
    found = os.statvfs(mount.path)
    assert (found.f_bfree, found.f_namemax) == (0, 255)
    assert found.f_blocks * found.f_frsize >= len(BIG)
    assert found.f_files > 3000
    assert found.f_flag & os.ST_NOSUID
    assert found.f_flag & os.ST_RDONLY


def test_open_permissions_show_modes_and_let_read(kind: str, open_path: Path) -> None:
    objects = Objects()
    root = live(objects, {"one": image(objects, content(objects))})
    with mounted(kind, objects, root, open_path, permissions="open") as found:
        path = found.path / "one" / "locked"
        assert as_user(path, "cat").stdout == b"secret"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert as_user(found.path / "one/private/inside", "cat").stdout == b"inside"
