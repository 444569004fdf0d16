"""New revisions while the kernel caches everything: folders change at once, snapshots never."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.counts import count
from tests.support.fuse_mount import Mounted, mounted
from tests.support.images import Objects, image, live
from tests.support.kernel_caches import kept_kernel_caches

pytestmark = pytest.mark.root


@pytest.fixture
def mount(kind: str, tmp_path: Path) -> Iterator[Mounted]:
    objects = Objects()
    root = live(objects, {"reg": {"a:1": version(objects, 1), "latest": "a:1"}, "tree": version(objects, 1)})
    with mounted(kind, objects, root, tmp_path) as found:
        yield found


def version(objects: Objects, number: int) -> object:
    return image(objects, {"version": b"%d" % number, "d": {"in": b"in %d" % number, f"only{number}": b""}})


def second(mount: Mounted) -> None:
    objects = mount.objects
    reg = {"a:1": version(objects, 1), "a:2": version(objects, 2), "latest": "a:2"}
    mount.show(live(objects, {"reg": reg, "tree": version(objects, 2), "new": {}}), 2)


def test_names_come_change_and_go(mount: Mounted) -> None:
    path = mount.path
    assert os.readlink(path / "reg/latest") == "a:1"
    assert sorted(os.listdir(path / "reg")) == ["a:1", "latest"]
    assert not (path / "reg/a:2").exists()
    assert not (path / "new").exists()
    second(mount)
    assert os.readlink(path / "reg/latest") == "a:2"
    assert sorted(os.listdir(path / "reg")) == ["a:1", "a:2", "latest"]
    assert (path / "reg/a:2/version").read_bytes() == b"2"
    assert (path / "reg/latest/version").read_bytes() == b"2"
    assert (path / "tree/version").read_bytes() == b"2"
    assert os.listdir(path / "new") == []
    mount.show(live(mount.objects, {"reg": {"a:2": version(mount.objects, 2)}}), 3)
    assert os.listdir(path / "reg") == ["a:2"]
    assert not (path / "reg/a:1").exists()
    assert not (path / "tree").exists()
    assert os.listdir(path) == ["reg"]


def test_who_is_inside_stays_inside(mount: Mounted) -> None:
    path = mount.path
    inside = os.open(path / "tree/d", os.O_RDONLY | os.O_DIRECTORY)
    with (
        open(path / "tree/version", "rb") as opened,
        subprocess.Popen(
            ["sh"], cwd=path / "tree/d", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as shell,
    ):
        second(mount)
        assert (path / "tree/version").read_bytes() == b"2"
        assert sorted(os.listdir(path / "tree/d")) == ["in", "only2"]
        assert opened.read() == b"1"
        assert sorted(os.listdir(inside)) == ["in", "only1"]
        assert os.stat("only1", dir_fd=inside).st_size == 0
        with pytest.raises(FileNotFoundError):
            os.stat("only2", dir_fd=inside)
        said, _ = shell.communicate("cat in; ls ..; cat ../version\n", timeout=20)
        assert said == "in 1d\nversion\n1"
    os.close(inside)


def test_what_did_not_change_keeps_number_and_pages(mount: Mounted) -> None:
    kept = [mount.path / name for name in ("reg", "reg/a:1", "reg/a:1/d", "reg/a:1/version")]
    with kept_kernel_caches():
        before = [os.stat(path).st_ino for path in kept]
        kept[-1].read_bytes()
        second(mount)
        asked = mount.upcalls()
        assert [os.stat(path).st_ino for path in kept] == before
        assert kept[-1].read_bytes() == b"1"
        again = mount.upcalls()
    assert again.get("READ") == asked.get("READ")
    assert again.get("LOOKUP") == asked.get("LOOKUP")


def test_a_month_of_revisions_under_readers(mount: Mounted) -> None:
    """Readers hold files and working directories while many revisions come and go."""
    revisions = count(60, 1000)
    objects, path = mount.objects, mount.path
    held = []
    before = mount.ask("table")
    for number in range(2, revisions + 2):
        reg = {"a:1": version(objects, 1), f"v:{number}": version(objects, number), "latest": f"v:{number}"}
        mount.show(live(objects, {"reg": reg, "tree": version(objects, number)}), number)
        assert (path / "reg/latest/version").read_bytes() == b"%d" % number
        assert (path / "tree/d/in").read_bytes() == b"in %d" % number
        assert sorted(os.listdir(path / "reg")) == sorted(reg)
        assert not (path / f"reg/v:{number - 1}").exists()
        assert (path / "reg/a:1/version").read_bytes() == b"1"
        held.append(
            (number, os.open(path / "tree/version", os.O_RDONLY), os.open(path / "tree/d", os.O_RDONLY))
        )
        if len(held) > 20:
            check(*held.pop(0))
    while held:
        check(*held.pop(0))
    mount.show(live(objects, {"reg": {}}), revisions + 2)
    assert os.listdir(path / "reg") == []
    assert not (path / "tree").exists()
    # A folder that was in use when it went stays in the kernel's caches until memory is short.
    after = mount.given_back("slots", before["slots"] + 8)
    assert after["slots"] <= before["slots"] + 8, after["places"]
    assert after["fds"] <= before["fds"] + 4
    assert after["rss"] <= before["rss"] + (40 << 20)


def check(number: int, opened: int, directory: int) -> None:
    assert os.pread(opened, 10, 0) == b"%d" % number
    assert sorted(os.listdir(directory)) == ["in", f"only{number}"]
    os.close(opened)
    os.close(directory)
