"""A mount is atomic: it is made once, whole or not at all, and each mount has a daemon of its own."""

import json
import os
import select
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.daemon.mount_lock import MountLock
from lazyfs.system import mountpoint as points
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.processes import daemons, frozen, gone
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root


@contextmanager
def silent_server() -> Iterator[str]:
    """Runs a server that accepts connections and never answers; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x"


def begin(source: str | Path, mnt: Path, *options: str | Path) -> "subprocess.Popen[str]":
    """Starts `lazyfs mount` in a process group of its own; returns without waiting for it."""
    command = [*LAZYFS, "mount", str(source), str(mnt), *map(str, options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)


def daemon_at_work(runtime: Path) -> int:
    """Waits until the daemon of the only mount in progress holds the mount point; returns its process id."""
    until(lambda: any(path.read_bytes() for path in runtime.glob("*.lock")))
    (lock,) = runtime.glob("*.lock")
    return int(lock.read_text())


def mounts_at(mnt: Path) -> int:
    return sum(mount.mountpoint == str(mnt) for mount in points.mounts())


def test_of_many_mounts_at_once_one_is_made(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    started = [begin(published.store, mnt, "--cache", tmp_path / "cache") for _ in range(6)]
    said = [process.communicate()[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2, 2, 2, 2, 2], said
    assert sum("is busy" in text for text in said) == 5
    assert mounts_at(mnt) == 1
    assert daemons(mnt) == [status(mnt)["pid"]]
    lazyfs("umount", mnt)
    assert mounts_at(mnt) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_daemon_ends_with_a_command_that_is_given_up(
    published: Published, tmp_path: Path, runtime: Path, number: signal.Signals
) -> None:
    """The signal goes only to the command, as from the out-of-memory killer or a watchdog."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    trust = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
    with silent_server() as url, begin(url, mnt, *trust) as process:
        daemon_at_work(runtime)
        process.send_signal(number)
        process.communicate()
        until(lambda: daemons(mnt) == [])
    with mounted(published.store, mnt, "--cache", tmp_path / "cache"):
        assert mounts_at(mnt) == 1


def test_a_mount_waits_for_another_one_there_to_fail(
    published: Published, tmp_path: Path, runtime: Path
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    trust = ("--trust", published.store / "metadata/1.root.json", "--patience", "2")
    with silent_server() as url, begin(url, mnt, "--cache", tmp_path / "one", *trust) as first:
        daemon_at_work(runtime)
        lazyfs("mount", published.store, mnt, "--cache", tmp_path / "two")
        assert first.wait(timeout=60) != 0
    assert status(mnt)["source"] == str(published.store)
    lazyfs("umount", mnt)


def test_the_lock_of_a_mount_point_names_its_holder_and_is_free_after_it(tmp_path: Path) -> None:
    first = MountLock(str(tmp_path), "/mnt", 0)
    with pytest.raises(UsageError, match=rf"/mnt: another lazyfs mount there \(pid {os.getpid()}\)"):
        MountLock(str(tmp_path), "/mnt", 0)
    other = MountLock(str(tmp_path), "/other", 0)
    first.release()
    first.release()
    MountLock(str(tmp_path), "/mnt", 0).release()
    other.release()
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_mounted_meanwhile_is_left_alone(
    published: Published, tmp_path: Path, runtime: Path
) -> None:
    """The locks of lazyfs are per user, so root may mount on a user's directory at the same time. The daemon
    has looked at the directory once it connects to the server."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    trust = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
    port = free_port()
    with begin(f"http://127.0.0.1:{port}", mnt, *trust, "--patience", "60") as process:
        with socket.create_server(("127.0.0.1", port)) as silent:
            assert select.select([silent], [], [], 20)[0]
        subprocess.run(["mount", "-t", "tmpfs", "other", mnt], check=True)
        with serving(published.store, port):
            said = process.communicate()[1]
    assert process.returncode == 2
    assert f"mount point {mnt} is busy: other was mounted there meanwhile" in said
    assert [mount.source for mount in points.mounts() if mount.mountpoint == str(mnt)] == ["other"]
    subprocess.run(["umount", mnt], check=True)


_JOB = """
mount --make-rprivate /
{lazyfs} mount {store} {mnt} --cache {cache} || exit 9
{lazyfs} status {mnt} --json
read go
{lazyfs} status {mnt} --json
{lazyfs} umount {mnt}; echo $?
grep -c ' {mnt} ' /proc/self/mountinfo
"""


def test_two_namespaces_with_a_mount_at_one_path_have_a_daemon_each(
    published: Published, tmp_path: Path
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    job = _JOB.format(
        lazyfs=shlex.join(LAZYFS), store=published.store, mnt=mnt, cache=tmp_path / "cache"
    ).replace("--json", "--json | tr -d '\\n'; echo")
    jobs = []
    for _ in range(2):
        command = ["unshare", "-m", "sh", "-c", job]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        jobs.append((process, json.loads(process.stdout.readline())["pid"]))
    (first, one), (second, two) = jobs
    assert one != two
    for process, pid in ((first, one), (second, two)):
        said = process.communicate("go\n")[0].splitlines()
        assert json.loads(said[0])["pid"] == pid
        assert said[1:] == ["0", "0"]
        until(partial(gone, pid))


_POD = """
mount --make-rprivate /
unshare -pf sh -ec '
    {lazyfs} mount {store} {mnt} --cache {cache}
    mount --bind {mnt} {other}
    echo up
    read end'
"""


def test_a_daemon_in_a_pid_namespace_is_named_by_its_number_here(
    published: Published, tmp_path: Path
) -> None:
    """`lazyfs umount` waits for the daemon's end by that number, and says so if a second mount point keeps
    the daemon. The mount is in a mount namespace of its own: copies of it in the namespaces of tests beside
    this one would keep the daemon too."""
    mnt, other = tmp_path / "mnt", tmp_path / "other"
    mnt.mkdir()
    other.mkdir()
    paths = {"store": published.store, "mnt": mnt, "other": other, "cache": tmp_path / "cache"}
    pod = _POD.format(lazyfs=shlex.join(LAZYFS), **paths)
    command = ["unshare", "-m", "sh", "-c", pod]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"

        def beside(*arguments: str) -> "subprocess.CompletedProcess[str]":
            entered = ["nsenter", "-m", "-t", str(process.pid), *LAZYFS, *arguments]
            return subprocess.run(entered, capture_output=True, text=True, check=True)

        pid = json.loads(beside("status", str(mnt), "--json").stdout)["pid"]
        assert pid in daemons(mnt)
        assert (
            f"the daemon (pid {pid}) goes on: its mount is also at {other}"
            in beside("umount", str(mnt)).stderr
        )
        assert beside("umount", str(other)).stderr == ""
        assert gone(pid)
        process.communicate("end\n")


def test_a_bind_mount_and_a_second_path_ask_the_same_daemon(published: Published, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        subprocess.run(["mount", "--bind", mnt, tmp_path / "other"], check=True)
        assert status(tmp_path / "other")["pid"] == status(mnt)["pid"]
        subprocess.run(["umount", tmp_path / "other"], check=True)


def test_a_mount_point_reached_by_a_link_is_the_directory_itself(
    published: Published, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    lazyfs("mount", published.store, tmp_path / "link", "--cache", tmp_path / "cache")
    assert status(tmp_path / "link")["mountpoint"] == str(tmp_path / "mnt")
    lazyfs("umount", tmp_path / "link")
    assert mounts_at(tmp_path / "mnt") == 0


def test_a_daemon_that_is_frozen_while_it_mounts_is_named(
    published: Published, tmp_path: Path, runtime: Path
) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    trust = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
    with silent_server() as url, begin(url, mnt, *trust) as process:
        daemon = daemon_at_work(runtime)
        with frozen(daemon):
            options = ("--cache", tmp_path / "cache", "--patience", "0.5")
            done = lazyfs("mount", published.store, mnt, *options, check=False)
            assert done.returncode == 2
            assert f"another lazyfs mount there (pid {daemon})" in done.stderr
        process.kill()
        process.communicate()
    until(lambda: daemons(mnt) == [])
    with pytest.raises(UsageError, match="no mount of lazyfs"):
        control_client.mounted_at(str(mnt))
