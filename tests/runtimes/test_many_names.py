"""Binds into directories of a mounted image that hold more names than bwrap takes arguments."""

import ctypes
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.runtimes.joined_directories import AddedName, CompletedImage, JoinedDirectory, complete, completed
from lazyfs.runtimes.underlay import CoveredDirectory
from lazyfs.system.bounded_look import Answer, ask_one
from lazyfs.system.mount_table import Mount
from lazyfs.system.mountpoint import mounts
from tests.support.cli import lazyfs, mounted, new_repository
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY

NAMES = 3500
"""The number of names in /srv. bwrap accepts 9,000 arguments, and each name takes three of them."""
USERS = [(), pytest.param(("--user", f"{NOBODY}:{NOBODY}"), marks=pytest.mark.root)]


def _image_archive(path: Path) -> None:
    """Writes an image of busybox with NAMES names in /srv, and without /etc, /proc, /dev and /tmp."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes = b"", link: str = "", mode: int = 0o644) -> None:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(content)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry, io.BytesIO(content))

        add("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        for name in ("sh", "cat", "ls", "wc", "stat", "touch", "umount", "mount"):
            add(f"bin/{name}", link="busybox")
        directory = tarfile.TarInfo("srv")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o775
        tar.addfile(directory)
        add("srv/link", link="f12")
        for number in range(NAMES - 1):
            add(f"srv/f{number}", b"content %d\n" % number)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("many-names")
    open_to_all(directory)
    _image_archive(directory / "image.tar")
    store, keys = new_repository(directory, "run.example")
    lazyfs("publish", f"tar:{directory}/image.tar", store, "--as", "many", "--keys", keys)
    options = ("--cache", directory / "cache", "--trust", store / "metadata/1.root.json")
    with mounted(store, directory / "mnt", *options) as point:
        yield (point / "many").resolve()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Makes a directory that every user can write to, and a file beside it."""
    open_to_all(tmp_path)
    (tmp_path / "file").write_text("host\n")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory").chmod(0o777)
    (tmp_path / "directory/file").write_text("deep\n")
    return tmp_path


def run(image: Path, user: tuple[str, ...], host: Path, script: str) -> subprocess.CompletedProcess[str]:
    binds = ("-B", f"{host}/file:/srv/new:ro", "-B", f"{host}/directory:/srv/made/deep")
    command = [sys.executable, "-m", "lazyfs", "run", str(image), *binds, *user, "--", "sh", "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, preexec_fn=lambda: os.umask(0o77)
    )


def _at(image: Path) -> list[Mount]:
    """Returns the mounts of this machine at or below the image's repository."""
    return [mount for mount in mounts() if mount.mountpoint.startswith(str(image.parents[1]))]


@pytest.mark.parametrize("user", USERS)
def test_a_bind_is_made_beside_many_names(image: Path, host: Path, user: tuple[str, ...]) -> None:
    before = _at(image)
    script = """
    cat /srv/new /srv/made/deep/file; ls /srv | wc -l; cat /srv/f12 /srv/link
    stat -c %F:%a /srv /srv/link /srv/f12 /srv/made /proc; echo written >/srv/made/deep/out
    """
    done = run(image, user, host, script)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:5] == ["host", "deep", str(NAMES + 2), "content 12", "content 12"]
    kinds = done.stdout.split("\n")[5:9]
    assert kinds == ["directory:775", "symbolic link:777", "regular file:644", "directory:755"]
    assert (host / "directory/out").read_text() == "written\n"
    assert len(os.listdir(image / "srv")) == NAMES
    assert sorted(os.listdir(image)) == ["bin", "srv"]
    assert _at(image) == before


@pytest.mark.parametrize("user", USERS)
def test_what_is_joined_cannot_be_written_or_taken_away(
    image: Path, host: Path, user: tuple[str, ...]
) -> None:
    script = """
    touch /srv/x /srv/f1 /srv/made/x /x /srv/new
    umount /srv; mount -o remount,rw /srv; ls /srv | wc -l
    """
    done = run(image, user, host, script)
    assert done.stderr.count("Read-only file system") == 5
    assert done.stderr.count("ermi") == 2  # "not permitted", "permission denied"
    assert done.stdout == f"{NAMES + 2}\n"


@pytest.mark.root
def test_a_user_without_privileges_completes_an_image_too(image: Path) -> None:
    added = (AddedName("a/b", True), AddedName("new", False))
    wanted = CompletedImage(str(image), (JoinedDirectory("/srv", 0o755, added),))

    def as_nobody() -> tuple[int, list[str], bool]:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        ctypes.CDLL(None).prctl(4, ctypes.c_ulong(1))  # PR_SET_DUMPABLE, as a program of that user has it
        complete(wanted)
        return len(os.listdir(image / "srv")), os.listdir(image / "srv/a"), os.path.isfile(image / "srv/new")

    assert ask_one(as_nobody, 60) == Answer([NAMES + 2, ["b"], True], True)
    assert len(os.listdir(image / "srv")) == NAMES


def test_explain_shows_the_directories_that_are_joined(image: Path, host: Path) -> None:
    options = ("-B", f"{host}/file:/srv/new", "--explain")
    assert json.loads(lazyfs("run", image, *options, "--json", "--", "sh").stdout)["completed"] == [
        "/",
        "/srv",
    ]
    assert (
        "completed: /, /srv (by an overlay filesystem)\n" in lazyfs("run", image, *options, "--", "sh").stdout
    )
    short = ("-B", f"{host}/file:/bin/new", "--explain", "--json")
    assert json.loads(lazyfs("run", image, *short, "--", "sh").stdout)["completed"] == []


def test_a_machine_that_refuses_is_named_before_the_start(image: Path, host: Path) -> None:
    """The start runs in a user namespace that allows no new mount namespace, so adding the bind target must
    fail. The real bwrap would fail there even earlier, so a stand-in for bwrap passes the trial of the
    runtime."""
    (host / "bin").mkdir()
    (host / "bin/bwrap").write_text("#!/bin/sh\necho bubblewrap 0.8.0\n")
    (host / "bin/bwrap").chmod(0o755)
    ours = shlex.join([sys.executable, "-m", "lazyfs", "run", str(image), "-B", f"{host}/file:/srv/new"])
    limited = f"echo 0 >/proc/sys/user/max_mnt_namespaces; PATH={host}/bin:$PATH exec {ours} -- sh"
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c", limited]
    done = subprocess.run(unshare, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a bind target is missing in /, /srv, which has too many names" in done.stderr
    assert "overlay filesystem for a user (user namespace: " in done.stderr


def test_each_name_is_added_where_it_is_missing() -> None:
    made = [CoveredDirectory("/", 0o755, (), ()), CoveredDirectory("/srv", 0o700, (), ())]
    points = [("/proc", "/", True), ("/a/b", "/", False), ("/srv/c", "/srv", True)]
    root, inner = completed("/image", made, points).directories
    assert root == JoinedDirectory("/", 0o755, (AddedName("proc", True), AddedName("a/b", False)))
    assert inner == JoinedDirectory("/srv", 0o700, (AddedName("c", True),))
