"""The commands mount, umount, status and refresh as an operator types them, and their error messages."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import UsageError
from lazyfs.daemon.session_choice import KINDS
from lazyfs.fuse.device import check_device
from lazyfs.system import mountpoint as points
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, socket_of, status
from tests.support.images import image, live
from tests.support.processes import gone
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory
from tests.support.until import until

pytestmark = pytest.mark.root


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path)
    found.commit(
        live(found.objects, {"lib": {"a:1": image(found.objects, {"f": b"1", "big": b"x" * 300_000})}})
    )
    return found


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with runtime_directory(tmp_path, monkeypatch) as directory:
        yield directory


def refused(*arguments: str | Path, status: int = 2) -> str:
    """Runs a command that must fail with this status; returns its error message, which must be one line."""
    done = lazyfs(*arguments, check=False)
    assert done.returncode == status, done
    assert done.stderr.startswith("lazyfs: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def killed(published: Published, tmp_path: Path) -> Path:
    """Returns a mount point whose daemon was killed."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--no-keeper")
    pid = status(mnt)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    return mnt


def test_mount_returns_when_the_mount_answers_and_umount_when_it_is_gone(
    published: Published, tmp_path: Path, runtime: Path
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--log", tmp_path / "log")
    assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    found = status(mnt)
    (socket_file,) = runtime.iterdir()
    assert stat.S_IMODE(socket_file.stat().st_mode) == 0o666  # of root's mount, which every user may ask for
    there = points.find(str(mnt))
    assert there is not None
    assert (there.fstype, there.source) == ("fuse.lazyfs", str(published.store))
    assert {"ro", "nosuid", "nodev"} <= set(there.options.replace(" ", ",").split(","))
    lazyfs("umount", mnt)
    assert points.find(str(mnt)) is None
    assert gone(found["pid"])
    assert list(runtime.iterdir()) == []
    assert "mounted" in (tmp_path / "log").read_text()


def test_status_says_what_is_shown_and_what_it_cost(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        (mnt / "lib/a:1/f").read_bytes()
        found = status(mnt)
        repository = found["repositories"]["test.example.org"]
        assert (repository["revision"], repository["warning"]) == (2, "")
        assert found["counters"]["upcalls"]["LOOKUP"] >= 3
        assert found["counters"]["read_bytes"] == 1
        assert found["cache"]["limit"] == 4 << 30
        text = lazyfs("status", mnt).stdout
        assert "revision 2" in text
        every = json.loads(lazyfs("status", "--json", check=False).stdout)  # other mounts may be dead
        assert str(mnt) in [one["mountpoint"] for one in every]


def test_refresh_shows_a_new_revision(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        assert os.listdir(mnt / "lib") == ["a:1"]
        assert "no news" in lazyfs("refresh", mnt).stdout
        published.commit(live(published.objects, {"lib": {"b:1": image(published.objects, {"f": b"2"})}}))
        assert "new revision" in lazyfs("refresh", mnt).stdout
        assert os.listdir(mnt / "lib") == ["b:1"]
        assert (mnt / "lib/b:1/f").read_bytes() == b"2"


def test_a_new_revision_is_noticed_by_itself(published: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--refresh", "0.1")
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        assert os.listdir(mnt / "lib") == ["a:1"]
        published.commit(live(published.objects, {"lib": {}}))
        until(lambda: os.listdir(mnt / "lib") == [])


def test_a_mount_whose_daemon_was_killed_is_replaced(published: Published, tmp_path: Path) -> None:
    mnt = killed(published, tmp_path)

    def dead() -> bool:
        with pytest.raises(OSError, match=r"not connected|connection abort|Input/output") as found:
            os.statvfs(mnt)
        # EIO: a thread of the daemon has read the request while it was being ended.
        return found.value.errno != errno.EIO

    until(dead)
    with mounted(published.store, mnt, "--cache", tmp_path / "cache"):
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    assert points.find(str(mnt)) is None


def test_a_dead_mount_can_be_unmounted(published: Published, tmp_path: Path, runtime: Path) -> None:
    mnt = killed(published, tmp_path)
    lazyfs("umount", mnt)
    assert points.find(str(mnt)) is None
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts_the_foreground(
    published: Published, tmp_path: Path, number: signal.Signals
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    command = [
        *LAZYFS,
        "mount",
        str(published.store),
        str(mnt),
        "--cache",
        str(tmp_path / "cache"),
        "--foreground",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "is mounted" in line:
                break
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(timeout=20) == 0
        assert "Traceback" not in said
    assert points.find(str(mnt)) is None


def test_umount_refuses_while_in_use_and_a_lazy_one_keeps_what_is_open(
    published: Published, tmp_path: Path
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
    with open(mnt / "lib/a:1/f", "rb") as opened:
        assert "in use" in refused("umount", mnt)
        lazyfs("umount", mnt, "--lazy")
        assert opened.read() == b"1"


def test_busy_missing_and_wrong_mount_points(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        assert "is busy" in refused("mount", published.store, mnt)
    assert "does not exist" in refused("mount", published.store, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "is no directory" in refused("mount", published.store, tmp_path / "file")
    assert "is not mounted; lazyfs status lists" in refused("umount", tmp_path / "mnt")
    assert "no mount of lazyfs" in refused("umount", "/proc")
    assert "no mount of lazyfs" in refused("status", tmp_path)


def test_what_cannot_be_mounted(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    cache = ("--cache", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    assert "holds no repository" in refused("mount", tmp_path / "empty", mnt, *cache)
    port = free_port()
    other = Published(tmp_path / "other").keys.parent / "store/metadata/1.root.json"
    refused("mount", f"http://127.0.0.1:{port}/x", mnt, *cache, "--trust", other, "--patience", "2", status=1)
    assert "trust" in refused("mount", published.store, mnt, *cache, "--trust", "nonsense")
    assert "signed" in refused("mount", published.store, mnt, *cache, "--trust", other, status=1)
    (tmp_path / "file").touch()
    assert "cache" in refused("mount", published.store, mnt, "--cache", tmp_path / "file")
    assert "is no size" in refused("mount", published.store, mnt, *cache, "--cache-limit", "lots")
    assert "no such user" in refused("mount", published.store, mnt, *cache, "--user", "nobody-at-all")
    said = refused("mount", published.store, mnt, *cache, "--log", tmp_path / "no/such/log")
    assert (
        f"--log {tmp_path / 'no/such/log'}: No such file or directory; mkdir {tmp_path / 'no/such'} first"
        in said
    )
    assert points.find(str(mnt)) is None
    assert os.listdir(mnt) == []


def test_no_fuse_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="modprobe fuse"):
        check_device(str(tmp_path / "fuse"))


def test_a_config_file(published: Published, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    other = Published(tmp_path / "second", "two.example")
    other.commit(live(other.objects, {"img": image(other.objects, {"f": b"two"})}))
    config.write_text(
        f'cache = "{tmp_path}/cache"\ncache_limit = "100M"\ncache_policy = "sieve"\n'
        f'[repositories."one.example"]\nurl = "{published.store}"\n'
        f'[repositories."two.example"]\nurl = "{other.store}"\n'
        f'[repositories."gone.example"]\nurl = "{tmp_path}/gone"\n'
    )
    mnt = tmp_path / "cvmfs"
    mnt.mkdir()
    lazyfs("mount", "--config", config, mnt)
    try:
        assert os.listdir(mnt) == []
        assert (mnt / "one.example/lib/a:1/f").read_bytes() == b"1"
        assert (mnt / "two.example/img/f").read_bytes() == b"two"
        assert not (mnt / "three.example").exists()
        with pytest.raises(OSError, match="Input/output"):
            os.stat(mnt / "gone.example")
        assert sorted(os.listdir(mnt)) == ["one.example", "two.example"]
        assert os.getxattr(mnt / "two.example/img/f", "user.repository") == b"two.example"
        assert status(mnt)["cache"]["limit"] == 100 << 20
        assert status(mnt)["cache"]["policy"] == "sieve"
        published.commit(live(published.objects, {}))
        lazyfs("refresh", mnt)
        assert os.listdir(mnt / "one.example") == []
        assert (mnt / "two.example/img/f").read_bytes() == b"two"
    finally:
        lazyfs("umount", mnt)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cache = 5", "cache"),
        ("what = 1", "what"),
        ('cache_policy = "fifo"', "cache_policy"),
        ("= broken", "config"),
        ('fuse = "other"', "direct"),
        ('[repositories."a/b"]\nurl = "x"', "folder"),
    ],
)
def test_a_wrong_config_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "site.toml"
    config.write_text(text)
    message = refused("mount", "--config", config, tmp_path)
    assert said in message
    assert "site.toml" in message


def test_everything_is_served_with_the_origin_dead(published: Published, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache", "--patience", "2")
    trust = ("--trust", published.store / "metadata/1.root.json")
    with serving(published.store) as url:
        (tmp_path / "mnt").mkdir()
        message = refused("mount", url, tmp_path / "mnt", *cache)
        assert "--trust" in message
        with mounted(url, tmp_path / "mnt", *cache, *trust) as mnt:
            (mnt / "lib/a:1/f").read_bytes()
    with mounted(url, tmp_path / "mnt", *cache) as mnt:
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        until(lambda: status(mnt)["repositories"]["test.example.org"]["warning"])
        with pytest.raises(OSError, match="Input/output"):
            (mnt / "lib/a:1/big").read_bytes()
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"


def test_sockets_that_dead_daemons_left_are_replaced_and_removed(
    published: Published, tmp_path: Path, runtime: Path
) -> None:
    runtime.mkdir(mode=0o700)
    numbers = [int(mount.device.partition(":")[2]) for mount in points.mounts()]
    for number in range(max(numbers) + 50):  # the mount takes one of them
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(runtime / f"0-{number}.sock"))
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        assert status(mnt)["ok"]
        assert list(runtime.iterdir()) == [Path(socket_of(mnt))]


@pytest.mark.parametrize("kind", KINDS)
def test_umount_ends_a_daemon_that_holds_a_read_through_an_outage(
    kind: str, published: Published, tmp_path: Path
) -> None:
    options = ("--fuse", kind, "--on-outage", "wait", "--patience", "1", "--cache", str(tmp_path / "cache"))
    trust = ("--trust", str(published.store / "metadata/1.root.json"))
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    with serving(published.store) as url:
        lazyfs("mount", url, mnt, *options, *trust)
        os.listdir(mnt / "lib/a:1")
    pid = status(mnt)["pid"]
    before = status(mnt)["counters"]["misses"]
    with subprocess.Popen(["cat", mnt / "lib/a:1/f"], stdout=subprocess.DEVNULL) as reader:
        until(lambda: status(mnt)["counters"]["misses"] > before)
        reader.kill()
    lazyfs("umount", mnt)
    until(lambda: gone(pid))
