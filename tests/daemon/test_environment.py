"""The commands and the daemon start from a known state, whatever shell, batch system or service starts
them."""

import os
import resource
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from lazyfs.system import clean_start
from lazyfs.system import mountpoint as points
from lazyfs.system.fuse_conf import user_allow_other
from tests.support.cli import LAZYFS, lazyfs, mounted, status
from tests.support.processes import run
from tests.support.repository import Published

pytestmark = pytest.mark.root


def shell(script: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs a shell script; `lazyfs` in it is the command under test."""
    return run("sh", "-c", f'lazyfs() {{ {shlex.join(LAZYFS)} "$@"; }}\n{script}')


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed: str, published: Published, tmp_path: Path) -> None:
    mnt, log = tmp_path / "mnt", tmp_path / "log"
    mnt.mkdir()
    done = shell(f"lazyfs mount {published.store} {mnt} --cache {tmp_path}/cache --log {log} {closed}")
    assert done.returncode == 0, done
    assert "mounted" in log.read_text()
    pid = status(mnt)["pid"]
    assert os.readlink(f"/proc/{pid}/fd/1") == str(log)
    assert shell(f"lazyfs status {mnt} {closed}").returncode == 0
    assert shell(f"lazyfs umount {mnt} {closed}").returncode == 0


def test_the_daemon_keeps_nothing_open_of_the_caller(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    reading, writing = os.pipe()
    mnt.mkdir()
    with open(tmp_path / "lock", "w") as lock:
        command = [*LAZYFS, "mount", str(published.store), str(mnt), "--cache", str(tmp_path / "cache")]
        subprocess.run(command, pass_fds=[writing, lock.fileno()], check=True)
    os.close(writing)
    assert os.read(reading, 1) == b""  # end of file: no process holds the writing end
    os.close(reading)
    pid = status(mnt)["pid"]
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    assert str(tmp_path / "lock") not in links
    lazyfs("umount", mnt)


def test_ignored_and_blocked_signals_limits_and_umask_stay_with_the_caller(
    published: Published, tmp_path: Path
) -> None:
    """The caller is a batch job. Its limits on CPU time and file size must not apply to a daemon that serves
    other jobs too."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()

    def as_a_job() -> None:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        for limit, value in ((resource.RLIMIT_FSIZE, 1 << 16), (resource.RLIMIT_CPU, 500)):
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        os.umask(0o777)

    command = [*LAZYFS, "mount", str(published.store), str(mnt), "--cache", str(tmp_path / "cache")]
    subprocess.run(command, preexec_fn=as_a_job, check=True)
    found = status(mnt)
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{found['pid']}/status").read_text().splitlines()
    )
    ignored = int(fields["SigIgn"], 16)
    assert int(fields["SigBlk"], 16) == 0
    assert [n for n in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP) if ignored >> (n - 1) & 1] == []
    assert fields["Umask"].strip() == "0022"
    limits = Path(f"/proc/{found['pid']}/limits").read_text()
    for name in ("Max file size", "Max cpu time"):
        (line,) = (line for line in limits.splitlines() if line.startswith(name))
        assert line.split()[-3] == line.split()[-2], line
    assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
    assert status(mnt)["cache"]["refused"] == 0
    os.kill(found["pid"], signal.SIGTERM)
    lazyfs("umount", mnt, check=False)
    assert points.find(str(mnt)) is None


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (b"user_allow_other", True),
        (b"# user_allow_other\n", False),
        (b"mount_max = 5\n \tuser_allow_other\t# for the batch system\n", True),
        (b"user_allow_other#x", True),
        (b"user_allow_other = 1\n", False),
        (b"\xff\xfe\nuser_allow_other\r\n", True),
        (b"", False),
    ],
)
def test_fuse_conf_is_read_as_fusermount_reads_it(text: bytes, allowed: bool, tmp_path: Path) -> None:
    path = tmp_path / "fuse.conf"
    path.write_bytes(text)
    assert user_allow_other(str(path)) is allowed
    assert user_allow_other(str(tmp_path / "none")) is False


def test_a_working_directory_that_is_gone(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        here = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone"
        done = shell(f"{here} && lazyfs status {mnt} >&2 && lazyfs umount mnt")
        assert done.returncode == 2
        assert "the working directory is gone; give the whole path" in done.stderr.decode()


def test_a_child_of_a_caller_that_ignores_its_children_is_waited_for() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        clean_start.expect_children()
        assert run("false").returncode == 1
    finally:
        signal.signal(signal.SIGCHLD, before)
