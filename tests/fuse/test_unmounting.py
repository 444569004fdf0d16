"""`lazyfs umount` names the programs that use a mount. With the option to end them, it ends exactly these."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.daemon import unmount
from lazyfs.daemon.unmount_users import in_use
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_holders import Holder, Holders, holders
from lazyfs.system.mount_table import Mount
from tests.daemon.conftest import published, runtime
from tests.support.cli import lazyfs, mounted, status
from tests.support.processes import frozen, gone
from tests.support.repository import Published
from tests.support.until import until

__all__ = ["published", "runtime"]
pytestmark = pytest.mark.root

LIMIT = 60
_READY = "print('ready', flush=True); signal.pause()"
OPENING = f"import signal, sys; f = open(sys.argv[1]); {_READY}"
IGNORING = (
    f"import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); f = open(sys.argv[1]); {_READY}"
)
WORKING = f"import os, signal, sys; os.chdir(sys.argv[1]); {_READY}"
MAPPING = (
    "import ctypes, os, signal, sys; file = os.open(sys.argv[1], os.O_RDONLY);"
    "ctypes.CDLL(None).mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0));"
    f"os.close(file); {_READY}"
)
"""Maps a file into memory without keeping it open, as Python's own mmap would."""


@contextmanager
def user(script: str, path: Path, *prefix: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs a program that uses a path until it is killed."""
    command = [*prefix, sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def mnt(published: Published, tmp_path: Path) -> Iterator[Path]:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--no-keeper") as there:
        yield there


def kill_daemon(mnt: Path) -> None:
    pid = status(mnt)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))


def refused(*arguments: str | Path) -> str:
    done = lazyfs("umount", *arguments, check=False, timeout=LIMIT)
    assert done.returncode == 2, done
    return done.stderr


def test_the_programs_that_use_a_mount_are_named(mnt: Path, tmp_path: Path) -> None:
    file = mnt / "lib/a:1/big"
    with user(WORKING, file.parent) as one, user(MAPPING, file) as two, user(OPENING, file) as three:
        said = refused(mnt)
        assert f"{mnt} is in use by " in said
        for process, use in ((one, "works in"), (two, "runs or maps"), (three, "has")):
            assert f"pid {process.pid} ({sys.executable} -c" in said
            assert any(use in part for part in said.split("pid ") if part.startswith(str(process.pid)))
    subprocess.run(["mount", "-t", "tmpfs", "other", mnt / "lib"], check=True)
    try:
        assert f"tmpfs, which is mounted at {mnt}/lib" in refused(mnt)
    finally:
        subprocess.run(["umount", mnt / "lib"], check=True)


def test_a_program_that_only_looks_is_waited_for(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--no-keeper")
    (mount,) = [one for one in points.mounts() if one.mountpoint == str(mnt)]
    with user(WORKING, mnt) as looking:
        unmounting = points.unmount

        def leave_then_unmount(mountpoint: str, *, lazy: bool) -> None:
            try:
                unmounting(mountpoint, lazy=lazy)
            finally:
                looking.kill()
                looking.wait()

        monkeypatch.setattr(points, "unmount", leave_then_unmount)
        assert unmount.unmount(mount, lazy=False) == ""
    assert not points.find(str(mnt))


def test_a_program_in_another_namespace_is_named_by_its_own_path(mnt: Path) -> None:
    with user(OPENING, mnt / "lib/a:1/f", "unshare", "--mount") as process:
        there = points.find(str(mnt))
        assert there is not None
        found = holders(there)
        assert [(one.pid, one.use) for one in found.found] == [(process.pid, f"has {mnt}/lib/a:1/f open")]


def test_a_frozen_daemons_mount_goes_and_its_containers_are_named(
    published: Published, tmp_path: Path
) -> None:
    """No step of the unmount asks the frozen filesystem. For example, the device number of the mount comes
    from mountinfo."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
    pid = status(mnt)["pid"]
    with user(WORKING, tmp_path, "unshare", "--mount") as process:
        with frozen(pid):
            said = lazyfs("umount", mnt, timeout=LIMIT).stderr
            assert points.find(str(mnt)) is None
        assert f"the dead mount is also in containers, with pid {process.pid} ({sys.executable}" in said
        assert f"kill -KILL {pid}" in said
    until(lambda: gone(pid))


@pytest.mark.parametrize("dead", [False, True])
def test_containers_that_keep_the_filesystem_are_named(
    published: Published, tmp_path: Path, dead: bool
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--no-keeper")
    pid = status(mnt)["pid"]
    with user(WORKING, tmp_path, "unshare", "--mount") as process:
        if dead:
            kill_daemon(mnt)
        said = lazyfs("umount", mnt).stderr
        assert "is also in containers, with pid" in said
        assert f"pid {process.pid} ({sys.executable}" in said  # beside other tests' containers
        assert ("its daemon is dead" in said) == dead
    until(lambda: gone(pid))


def test_a_container_that_is_being_started_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is being started has copies of all mounts for a moment. A second look might find
    copies in yet another such container. So only programs that both looks have found are named."""
    mount = Mount("0:1", "/m", points.FSTYPE, "x", "ro")
    one, two = Holder(7, "bwrap", "x"), Holder(8, "sh", "x")
    monkeypatch.setattr(unmount, "STARTING", 0)
    with unmount._Process(os.getpid()) as living, unmount._Process(0) as ended:
        for looks, process, named in (
            ([[one, two], [two]], living, "with pid 8 (sh)"),
            ([[one], [two]], living, ""),
            ([[]], living, ""),
            ([[one]], ended, ""),
        ):
            left = iter(looks)
            monkeypatch.setattr(unmount, "elsewhere", lambda _, left=left: next(left))
            said = unmount._in_containers(mount, process)
            assert (named in said, bool(said)) == (True, bool(named))
            assert next(left, None) is None


def test_kill_ends_them_and_nobody_else(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--no-keeper")
    pid = status(mnt)["pid"]
    file = mnt / "lib/a:1/f"
    with user(OPENING, file) as willing, user(IGNORING, file) as unwilling, user(WORKING, tmp_path) as other:
        lazyfs("umount", "--kill", mnt, timeout=LIMIT)
        assert willing.wait() == -signal.SIGTERM
        assert unwilling.wait() == -signal.SIGKILL
        assert other.poll() is None
    assert points.find(str(mnt)) is None
    assert gone(pid)


def test_kill_spares_the_shell_that_it_was_typed_in(mnt: Path) -> None:
    shell = f"cd {mnt}/lib; {sys.executable} -m lazyfs umount --kill {mnt}; echo $?"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout == "2\n"
    assert "your own shell pid" in done.stderr
    assert "cd / first" in done.stderr


def test_the_command_itself_is_no_user(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    lazyfs("mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--no-keeper")
    lazyfs("umount", tmp_path / "mnt", cwd=tmp_path / "mnt/lib", timeout=LIMIT)


def test_a_dead_mount_goes_although_programs_have_it_open(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    mount = ("mount", published.store, mnt, "--cache", tmp_path / "cache", "--no-keeper")
    lazyfs(*mount)
    with user(OPENING, mnt / "lib/a:1/f"):
        kill_daemon(mnt)
        lazyfs("umount", mnt)
        assert points.find(str(mnt)) is None
    lazyfs(*mount)
    with user(OPENING, mnt / "lib/a:1/f"):
        kill_daemon(mnt)
        lazyfs(*mount)
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    lazyfs("umount", mnt)


def test_dead_mounts_one_over_the_other_are_replaced(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    cache = ("--cache", tmp_path / "cache", "--no-keeper")
    both = [tmp_path / "one", tmp_path / "two"]
    for place in both:
        place.mkdir()
        lazyfs("mount", published.store, place, *cache, "--no-keeper")
        subprocess.run(["mount", "--bind", place, mnt], check=True)
    for place in both:
        kill_daemon(place)
    lazyfs("mount", published.store, mnt, *cache, "--no-keeper")
    assert len([one for one in points.mounts() if one.mountpoint == str(mnt)]) == 1
    assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    for place in (mnt, *both):
        lazyfs("umount", place)


def test_lazy_and_kill_exclude_each_other(mnt: Path) -> None:
    assert "give one of the two" in refused("--lazy", "--kill", mnt)


def test_many_users_are_counted_and_blindness_is_said() -> None:
    mount = Mount("0:1", "/m", points.FSTYPE, "x", "ro")
    many = [Holder(number, "job", "works in /m") for number in range(1, 9)]
    assert in_use(mount, Holders(many, True)).count("pid ") == 5
    assert "3 more" in in_use(mount, Holders(many, True))
    assert "may not look into" in in_use(mount, Holders([], False))
    assert "may not look into" in in_use(mount, Holders(many[:1], False))
