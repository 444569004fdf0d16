"""A mount whose daemon is frozen or dead delays no command that looks at all mounts, or that unmounts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client, mounted_path
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_table import Mount
from lazyfs.system.mountpoint import Health
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, socket_of, status
from tests.support.images import image, live
from tests.support.processes import daemons, frozen, gone
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root

LIMIT = 60
"""Seconds after which a command counts as hanging. A command that waits without a timeout would never end."""


@pytest.fixture
def sick(published: Published, tmp_path: Path) -> Iterator[Path]:
    """Yields a mount whose daemon is frozen."""
    mnt = tmp_path / "sick"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "sick-cache")
    with frozen(status(mnt)["pid"]):
        yield mnt


def said(*arguments: str | Path, status: int = 2) -> str:
    """Runs a command that must fail with this status in time; returns its stderr."""
    done = lazyfs(*arguments, check=False, timeout=LIMIT)
    assert done.returncode == status, done
    return done.stderr


def said_by_all() -> str:
    """Returns the output of `status --json`, which must exit with 1 because a mount does not answer."""
    done = lazyfs("status", "--json", check=False, timeout=LIMIT)
    assert done.returncode == 1
    return done.stdout


def test_commands_that_name_a_frozen_mount_say_so(sick: Path, published: Published, tmp_path: Path) -> None:
    (pid,) = daemons(sick)
    for command in ("status", "top", "refresh"):
        code = 1 if command == "status" else 2
        assert f"(pid {pid}) does not answer" in said(command, sick, status=code)
    assert "whose daemon does not answer" in said("mount", published.store, sick, "--cache", tmp_path / "c")
    assert daemons(sick) == [pid]


def test_status_of_all_shows_the_others(sick: Path, published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "well", "--cache", tmp_path / "cache") as well:
        found = {one["mountpoint"]: one for one in json.loads(said_by_all())}
        assert found[str(well)]["ok"]
        assert not found[str(sick)]["ok"]
        assert "does not answer" in found[str(sick)]["error"]


def test_all_the_sick_are_asked_at_the_same_time(
    sick: Path, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    told: list[float] = []
    ask = control_client.ask

    def noted(mount: Mount, *arguments: object) -> control_client.Reply:
        asked.append(time.monotonic())
        try:
            return ask(mount, {"do": "status"}, 0.5)
        finally:
            told.append(time.monotonic())

    monkeypatch.setattr(control_client, "ask", noted)
    mount = points.find(str(sick))
    assert mount is not None
    answers = control_client.status_each([mount] * 20)
    assert all(isinstance(answer, control_client.NoAnswer) for answer in answers)
    assert max(asked) < min(told)


def test_a_frozen_mount_is_unmounted_from_under_its_users(sick: Path) -> None:
    """A lazy unmount would not be enough: the hanging calls would keep the filesystem in use for ever."""
    (pid,) = daemons(sick)
    with subprocess.Popen(["cat", sick / "lib/a:1/big"], stderr=subprocess.PIPE, text=True) as reader:
        until(lambda: Path(f"/proc/{reader.pid}/wchan").read_text() == "request_wait_answer")
        done = lazyfs("umount", sick, timeout=LIMIT)
        assert f"the daemon (pid {pid}) does not answer" in done.stderr
        assert points.find(str(sick)) is None
        assert reader.communicate()[1] != ""  # it hung, and has got an error
        assert reader.returncode == 1
    os.kill(pid, signal.SIGCONT)
    until(lambda: gone(pid))


def test_a_frozen_mount_whose_socket_is_out_of_reach_is_unmounted_too(
    sick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's command does not find the socket of the user's mount, since it looks in another runtime
    directory."""
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "another"))
    with subprocess.Popen(["cat", sick / "lib/a:1/big"], stderr=subprocess.DEVNULL) as reader:
        until(lambda: Path(f"/proc/{reader.pid}/wchan").read_text() == "request_wait_answer")
        lazyfs("umount", sick, timeout=LIMIT)
    assert points.find(str(sick)) is None


def test_a_daemon_that_is_only_deaf_is_not_aborted(published: Published, tmp_path: Path) -> None:
    """A daemon with a dead socket is kept if its filesystem answers: programs still use the mount."""
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        path = Path(socket_of(mnt))
        with socket.socket(socket.AF_UNIX) as deaf, open(mnt / "lib/a:1/f", "rb") as opened:
            path.rename(path.with_suffix(".away"))
            deaf.bind(str(path))
            deaf.listen()
            assert "in use" in said("umount", mnt)
            assert opened.read() == b"1"
        path.with_suffix(".away").rename(path)


def test_the_mount_helper_gives_a_path_through_a_frozen_mount_up_too(
    published: Published, tmp_path: Path
) -> None:
    """Regression: it said that the way does not answer, and then went that way itself to see if an
    automounter has mounted there meanwhile."""
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--no-keeper") as mnt:
        helper = (sys.executable, "-m", "lazyfs.cli.mount_helper")
        inside = mnt / "lib/a:1/f/mnt"
        with frozen(status(mnt)["pid"]):
            done = subprocess.run(
                [*helper, published.store, inside], capture_output=True, text=True, timeout=LIMIT, check=False
            )
    assert done.returncode == 2
    assert "a filesystem on the way does not answer in 2 s" in done.stderr


def test_a_path_through_a_frozen_mount_is_given_up(
    sick: Path, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = sick / "lib/a:1/f/mnt"
    assert "does not answer" in said("mount", published.store, inside, "--cache", tmp_path / "cache")
    (tmp_path / "link").symlink_to(inside)
    assert "does not answer" in said("umount", tmp_path / "link/x")
    monkeypatch.setattr(mounted_path, "SECONDS", 0.5)  # the default allows for catalogs on a slow line
    with pytest.raises(UsageError, match="does not answer"):
        mounted_path.locate(str(inside))


def test_the_health_of_a_mount(sick: Path, published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    lazyfs("mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--no-keeper")
    assert points.health(str(tmp_path / "mnt")) is Health.ALIVE
    assert points.health(str(sick)) is Health.SILENT
    pid = status(tmp_path / "mnt")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    assert points.health(str(tmp_path / "mnt")) is Health.DEAD


def test_one_dead_repository_of_a_site_does_not_hold_the_others_news_up(
    published: Published, tmp_path: Path
) -> None:
    other = Published(tmp_path / "other", "two.example")
    config = tmp_path / "site.toml"
    trust = other.store / "metadata/1.root.json"
    mnt = tmp_path / "site"
    mnt.mkdir()
    with serving(other.store) as url:
        config.write_text(
            f'cache = "{tmp_path}/cache"\npatience = 5\n'
            f'[repositories."one.example"]\nurl = "{published.store}"\n'
            f'[repositories."two.example"]\nurl = "{url}"\ntrust = "{trust}"\n'
        )
        lazyfs("mount", "--config", config, mnt)
        os.listdir(mnt / "two.example")
        os.listdir(mnt / "one.example")
    done = lazyfs("refresh", mnt, check=False, timeout=LIMIT)
    assert "one.example: no news" in done.stdout
    assert "two.example: failed" in done.stdout
    assert done.returncode == 1
    lazyfs("umount", mnt)


def test_many_ask_at_once(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        mount = points.find(str(mnt))
        assert mount is not None
        found = control_client.status_each([mount] * 300)
        assert [one for one in found if isinstance(one, UsageError)] == []


def test_a_caller_waits_while_the_queue_of_callers_is_full(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount("0:1048575", "/mnt", points.FSTYPE, "x", "ro")
    runtime.mkdir(mode=0o700)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(runtime / "0-1048575.sock"))
        listening.listen(0)
        full = False
        while not full:
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            full = caller.connect_ex(listening.getsockname()) != 0
        with pytest.raises(control_client.NoAnswer, match="takes no more callers"):
            control_client.ask(mount, {"do": "pid"}, 0.1)

        def let_one_in(_: float) -> None:
            stack.enter_context(listening.accept()[0])

        monkeypatch.setattr(time, "sleep", let_one_in)
        with pytest.raises(control_client.NoAnswer, match=rf"\(pid {os.getpid()}\) does not answer"):
            control_client.ask(mount, {"do": "pid"}, 0.1)


def test_a_program_of_one_mount_runs_beside_frozen_and_dead_ones_and_twins(
    published: Published, tmp_path: Path
) -> None:
    """The image lacks the program, and the error says so, which proves that the image was found. The image's
    name is unique to this test, because the command searches all mounts of the machine."""
    options = ("--cache", tmp_path / "cache", "--no-keeper")
    name = f"twins-{os.getpid()}/a:1"
    folder, _, tag = name.partition("/")
    tree = {folder: {tag: image(published.objects, {"f": b"1"})}}
    published.commit(live(published.objects, tree))

    def run() -> str:
        command = [*LAZYFS, "run", name, "--", "/nothing"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 127, done
        return done.stderr

    other = Published(tmp_path / "other", "two.example")
    for place, store in (("sick", other.store), ("one", published.store), ("two", published.store)):
        (tmp_path / place).mkdir()
        lazyfs("mount", store, tmp_path / place, *options)
    pid = status(tmp_path / "sick")["pid"]
    with frozen(pid):
        assert "is not in the image" in run()
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    assert "is not in the image" in run()
    for name in ("sick", "one", "two"):
        lazyfs("umount", tmp_path / name)
