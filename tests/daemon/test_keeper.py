"""The keeper, the process that holds a mount's /dev/fuse beside the daemon, answers requests while the daemon
is stopped or dead. A keeper that is killed is replaced."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.fuse.direct.session import READERS
from lazyfs.system import mountpoint as points
from lazyfs.system.own_python import PYTHON
from tests.support.cli import lazyfs, mounted, status, successions
from tests.support.descriptor_store import StoreStandIn
from tests.support.images import image, live
from tests.support.kernel_caches import kept_kernel_caches
from tests.support.processes import ahead_of, frozen, gone, parent
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root


def is_keeper(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "lazyfs-keeper\n"
    except OSError:
        return False


def error_of(call: Callable[[], object]) -> int:
    """Makes a call; returns the errno of its error, or 0 if it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def test_while_a_daemon_is_stopped_df_answers_and_reads_end_by_their_deadline(
    published: Published, tmp_path: Path
) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--patience", "1") as mnt:
        held, cold = mnt / "lib/a:1/f", mnt / "lib/a:1/big"
        daemon = status(mnt)["pid"]
        with kept_kernel_caches():
            assert held.read_bytes() == b"1"
            with frozen(daemon):
                os.statvfs(mnt)
                assert held.read_bytes() == b"1"  # the kernel has it
                assert error_of(cold.read_bytes) == errno.EIO
        assert cold.read_bytes() == b"x" * 300_000
        assert held.read_bytes() == b"1"


def test_a_daemon_that_is_stopped_for_longer_than_the_patience_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The kernel has a dozen reads ahead under way at most, and asks again for a page that could not be read
    ahead. If each waited for its own patience, these reads would take minutes."""
    published, files = Published(tmp_path / "many"), {f"f{number}": b"%d" % number for number in range(100)}
    published.commit(live(published.objects, {"a:1": image(published.objects, files)}))
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--patience", "2") as mnt:
        for name in files:
            os.stat(mnt / "a:1" / name)
        with frozen(status(mnt)["pid"]):
            assert {error_of((mnt / "a:1" / name).read_bytes) for name in files} == {errno.EIO}
        assert {name: (mnt / "a:1" / name).read_bytes() for name in files} == files


def test_what_was_asked_of_a_stopped_daemon_is_answered_when_it_goes_on(
    published: Published, tmp_path: Path
) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        os.stat(mnt / "lib/a:1")
        with frozen(status(mnt)["pid"]):
            reader = subprocess.Popen(["cat", mnt / "lib/a:1/big"], stdout=subprocess.PIPE)
            until(lambda: Path(f"/proc/{reader.pid}/wchan").read_text() == "request_wait_answer")
            killed = subprocess.Popen(["cat", mnt / "lib/a:1/f"])
            until(lambda: Path(f"/proc/{killed.pid}/wchan").read_text() == "request_wait_answer")
            killed.kill()
            assert killed.wait(timeout=10) == -signal.SIGKILL
        assert reader.communicate(timeout=20)[0] == b"x" * 300_000
        assert status(mnt)["successions"] == 0


def test_a_killed_keeper_is_replaced(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        daemon = status(mnt)["pid"]
        os.kill(parent(daemon), signal.SIGKILL)

        def children() -> list[int]:
            listed = (int(name) for name in filter(str.isdigit, os.listdir("/proc")))
            return [pid for pid in listed if is_keeper(pid) and parent(pid) == daemon]

        until(lambda: bool(children()))
        (keeper,) = children()
        until(lambda: "lazyfs-requests" in held_by(keeper))
        os.kill(daemon, signal.SIGKILL)
        assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
        until(lambda: status(mnt)["pid"] != daemon)
        assert parent(status(mnt)["pid"]) == keeper
    until(lambda: gone(keeper))


def test_a_request_that_comes_while_the_daemon_dies_waits_for_its_successor(
    published: Published, tmp_path: Path
) -> None:
    """A killed daemon's reader threads still take a request each if it comes before they get to run. One of
    them has never read a request before."""
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        daemon = status(mnt)["pid"]
        names = [mnt / f"missing{number}" for number in range(READERS)]
        with ahead_of(daemon), ThreadPoolExecutor(READERS) as pool:
            os.kill(daemon, signal.SIGKILL)
            errors = list(pool.map(lambda name: error_of(name.lstat), names))
        assert errors == [errno.ENOENT] * READERS


def held_by(pid: int) -> str:
    """Returns the names of the files that a process has open."""
    return " ".join(os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))


def test_a_mount_leaves_no_process(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        daemon = status(mnt)["pid"]
        keeper = parent(daemon)
        assert is_keeper(keeper)
    until(lambda: gone(daemon) and gone(keeper))


@pytest.mark.parametrize("how", [("--no-keeper",), ("--fuse", "pyfuse3")])
def test_a_mount_without_a_keeper_dies_with_its_daemon(
    how: tuple[str, ...], published: Published, tmp_path: Path
) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", *how) as mnt:
        daemon = status(mnt)["pid"]
        above = parent(daemon)
        until(lambda: not is_keeper(above))
        os.kill(daemon, signal.SIGKILL)
        until(lambda: gone(daemon))
        until(lambda: points.health(str(mnt)) is points.Health.DEAD)


def test_daemons_that_die_again_and_again_end_in_errors_and_not_in_hanging(
    published: Published, tmp_path: Path
) -> None:
    """The successor's program fails until it is repaired, like that of a half-removed installation."""
    program = tmp_path / "program"
    whole = f'exec {" ".join(PYTHON)} "$@"'
    program.write_text(whole)
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--patience", "1") as mnt:
        before = status(mnt)
        mount = control_client.mounted_at(str(mnt))
        control_client.reload(mount, ["/bin/sh", str(program)], control_client.settings(mount))
        until(lambda: successions(mnt) == 1)
        program.write_text("exit 9")
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: gone(before["pid"]))
        os.statvfs(mnt)
        assert error_of((mnt / "lib/a:1/big").read_bytes) == errno.EIO
        program.write_text(whole)
        until(lambda: lazyfs("status", mnt, check=False).returncode == 0)
        assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
        assert status(mnt)["successions"] == 2


def test_the_program_before_comes_back_if_that_of_a_reload_dies_at_once(
    published: Published, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text('case "$*" in *--check*) exit 0;; *) exit 9;; esac')
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        before = status(mnt)
        mount = control_client.mounted_at(str(mnt))
        control_client.reload(mount, ["/bin/sh", str(program)], control_client.settings(mount))
        until(lambda: gone(before["pid"]))
        for _ in range(2):
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
            until(lambda: lazyfs("status", mnt, check=False).returncode == 0)
            os.kill(status(mnt)["pid"], signal.SIGKILL)


def test_a_program_that_cannot_serve_the_mount_leaves_it_to_the_old_one(
    published: Published, tmp_path: Path
) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        mount = control_client.mounted_at(str(mnt))
        wanted = control_client.settings(mount)
        older = tmp_path / "older"
        older.write_text('sed "s/.format.: 1/\\"format\\":0/" | ' + " ".join(PYTHON) + ' "$@"')
        for program, reason in (
            (["/nowhere/python"], "No such file"),
            (["/bin/false"], "the new one fails"),
            (["/bin/sh", str(older)], "has format 0, and this version of lazyfs takes 1"),
        ):
            with pytest.raises(UsageError, match=f"the old daemon stays: .*{reason}"):
                control_client.reload(mount, program, wanted)
        assert status(mnt)["successions"] == 0
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"


def test_settings_that_a_live_mount_keeps_are_named(published: Published, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    text = f'source = "{published.store}"\ncache = "{tmp_path}/c"\n'
    config.write_text(text)
    (tmp_path / "mnt").mkdir()
    mnt = tmp_path / "mnt"
    lazyfs("mount", "--config", config, mnt)
    try:
        config.write_text(text + "suid = true\nuid = 5\n")
        refused = lazyfs("reload", mnt, check=False)
        assert refused.returncode == 2
        assert "cannot be changed while mounted: suid, uid; umount, and mount again" in refused.stderr
        config.write_text(text + "patience = 7\n")
        assert f"{mnt}: served by a new daemon" in lazyfs("reload", mnt).stdout
        assert f"patience = 7  # file {config}:3" in lazyfs("showconfig", mnt).stdout
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    finally:
        lazyfs("umount", mnt)


NOTIFIED = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "lazyfs", *sys.argv[1:]])
"""


def test_the_units_descriptor_store_keeps_the_mount(published: Published, tmp_path: Path) -> None:
    """A stand-in for systemd takes the descriptors, and passes them to the next process."""
    (tmp_path / "mnt").mkdir()
    mnt = tmp_path / "mnt"
    mount = ["mount", "--foreground", str(published.store), str(mnt), "--cache", str(tmp_path / "c")]
    with StoreStandIn(tmp_path / "notify") as store:
        first = store.start([sys.executable, "-c", NOTIFIED, *mount])
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        first.kill()
        assert first.wait() == -signal.SIGKILL
        reader = subprocess.Popen(["cat", mnt / "lib/a:1/big"], stdout=subprocess.PIPE)
        second = store.start([sys.executable, "-c", NOTIFIED, *mount])
        assert reader.communicate(timeout=20)[0] == b"x" * 300_000
        assert status(mnt)["successions"] == 1
        lazyfs("reload", mnt)
        assert status(mnt)["pid"] == second.pid
        second.terminate()
        assert second.wait(timeout=20) == 0
        until(lambda: store.names == set())
    assert points.find(str(mnt)) is None
