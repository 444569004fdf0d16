"""Commands and daemon start from a known state, whatever shell, batch system or service is around them."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control, runtime_directory
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.system import clean_start
from lazyfs.system import mountpoint as points
from lazyfs.system.fuse_conf import user_allow_other
from lazyfs.system.user_namespace import is_root_of_node, outer_user
from tests.support.cli import LAZYFS, lazyfs, mounted, status
from tests.support.repository import Published

pytestmark = pytest.mark.root

SCRIPT = Path(sys.executable).parent / "lazyfs"
"""As pip installs it."""


def run(
    *command: str | bytes | Path, check: bool = False, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Runs a command to its end."""
    return subprocess.run(command, check=check, capture_output=True, timeout=100, **options)


def shell(script: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs a shell script; `lazyfs` in it is the command under test."""
    return run("sh", "-c", f'lazyfs() {{ {shlex.join(LAZYFS)} "$@"; }}\n{script}')


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Modules and libraries of an experiment's own Python, which stop any other."""
    (tmp_path / "old").mkdir()
    for name in ("enum", "re", "click", "msgspec", "encodings"):
        (tmp_path / f"old/{name}.py").write_text("raise SystemExit('made for another Python')\n")
    for line in Path("/proc/self/maps").read_text().splitlines():
        library = line.rpartition("/")[2]
        if ".so" in library and not library.startswith(("libc.", "ld-")) and "/python" not in line:
            (tmp_path / "old" / library).write_text("made for another system")
    return tmp_path / "old"


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "PYTHONIOENCODING"]
)
def test_the_installed_command_takes_nothing_from_another_pythons_environment(
    name: str, other_python: Path, published: Published, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    environment = os.environ | {name: str(other_python)}
    for arguments in (
        ["mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache"],
        ["status", tmp_path / "mnt"],
        ["umount", tmp_path / "mnt"],
    ):
        done = run(SCRIPT, *map(str, arguments), env=environment)
        assert (done.returncode, done.stderr) == (0, b""), arguments


def test_the_environment_that_stops_python_does_stop_it(other_python: Path) -> None:
    """The test above would pass for a Python that minds none of this."""
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment = os.environ | {name: str(other_python)}
        assert run(*LAZYFS, "--version", env=environment).returncode != 0


def test_a_directory_full_of_modules_is_no_place_to_import_from(other_python: Path) -> None:
    done = run(SCRIPT, "--version", cwd=other_python)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_mount_helper_is_isolated_too_and_found_by_a_link(
    other_python: Path, published: Published, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "sbin").symlink_to(SCRIPT.parent / "mount.lazyfs")
    environment = os.environ | {"PYTHONPATH": str(other_python), "PYTHONHOME": str(other_python)}
    options = f"cache={tmp_path}/cache"
    run(tmp_path / "sbin", published.store, tmp_path / "mnt", "-o", options, env=environment, check=True)
    assert (tmp_path / "mnt/lib/a:1/f").read_bytes() == b"1"
    lazyfs("umount", tmp_path / "mnt")


def test_a_program_can_be_given_the_callers_libraries() -> None:
    for variables, code in (({"LD_LIBRARY_PATH": "/callers"}, 0), ({}, 2)):
        environment = {"PATH": os.environ["PATH"], **variables}
        done = run(SCRIPT, "run", "-e", "LD_LIBRARY_PATH", "--explain", "/", "--", "x", env=environment)
        assert done.returncode == code, done
        assert (b"--env LD_LIBRARY_PATH" in done.stderr) == (code == 2)


def test_names_are_printed_in_any_locale(published: Published, tmp_path: Path) -> None:
    mnt = os.fsencode(tmp_path) + b"/mnt\xff\r\xc3\xa9"
    os.mkdir(mnt)
    for locale in ("C", "POSIX", "C.UTF-8"):
        environment = os.environ | {"LC_ALL": locale}
        run(SCRIPT, "mount", published.store, mnt, "--cache", tmp_path / "cache", env=environment, check=True)
        done = run(SCRIPT, "status", env=environment)
        assert done.stderr == b""  # the code is that of all mounts of the node
        assert rb"/mnt\xff\r" + b"\xc3\xa9: " in done.stdout
        done = run(SCRIPT, "umount", mnt + b"/none", env=environment)
        assert rb"/mnt\xff\r" + b"\xc3\xa9/none is not mounted" in done.stderr
        run(SCRIPT, "umount", mnt, env=environment, check=True)


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
    assert os.read(reading, 1) == b""  # its end: nobody else can write
    os.close(reading)
    pid = status(mnt)["pid"]
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    assert str(tmp_path / "lock") not in links
    lazyfs("umount", mnt)


def test_ignored_and_blocked_signals_limits_and_umask_stay_with_the_caller(
    published: Published, tmp_path: Path
) -> None:
    """A batch job's: its limits on time and file size would end a daemon that serves other jobs too."""
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


def test_a_users_sockets_are_found_whatever_session_they_were_made_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LAZYFS_RUNTIME_DIR")
    mount = points.Mount("0:57", "/mnt", "fuse.lazyfs", "x", "ro")
    found = set()
    os.seteuid(64123)
    try:
        for session in (None, str(tmp_path), "/run/user/gone"):
            if session:
                monkeypatch.setenv("XDG_RUNTIME_DIR", session)
            else:
                monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
            assert runtime_directory.directory() == "/tmp/lazyfs-64123"
            found.add(next(runtime_directory.socket_paths(mount)))
        assert found == {"/tmp/lazyfs-64123/0-57.sock"}
    finally:
        os.seteuid(0)
        os.rmdir("/tmp/lazyfs-64123")


def test_a_name_in_tmp_that_somebody_took_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, open_path: Path
) -> None:
    monkeypatch.delenv("LAZYFS_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    taken = Path("/tmp/lazyfs-64124")
    taken.mkdir(mode=0o777)
    taken.chmod(0o777)
    session = open_path / "session"
    session.mkdir()
    os.chown(session, 64124, 64124)
    os.seteuid(64124)
    try:
        with pytest.raises(UsageError, match=r"can be written by others.*set LAZYFS_RUNTIME_DIR"):
            runtime_directory.directory()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
        assert runtime_directory.directory() == str(session / "lazyfs")
    finally:
        os.seteuid(0)
        taken.rmdir()


def test_the_root_of_a_user_namespace_is_the_user_that_made_it() -> None:
    code = (
        "import json\nfrom lazyfs.daemon import cache_directory, runtime_directory\n"
        "print(json.dumps([cache_directory.default_cache(), runtime_directory.directory()]))"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG", "LAZYFS"))
    }
    done = subprocess.run(
        ["unshare", "-U", "--map-user=0", "--map-group=0", sys.executable, "-c", code],
        env=environment | {"HOME": "/home/somebody"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["/home/somebody/.cache/lazyfs", "/tmp/lazyfs-0"]
    os.rmdir("/tmp/lazyfs-0")
    assert is_root_of_node()
    assert outer_user(5) == 5


def test_a_user_without_a_home_is_asked_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 64125)
    monkeypatch.setattr("os.getuid", lambda: 64125)
    with pytest.raises(UsageError, match="user 64125 has no home; name one with --cache"):
        default_cache()


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


def test_an_almost_empty_environment_as_crons(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for arguments in (
        ["mount", published.store, tmp_path / "mnt", "--cache", tmp_path / "cache"],
        ["umount", tmp_path / "mnt"],
    ):
        runtime = {"LAZYFS_RUNTIME_DIR": str(tmp_path / "run")}
        done = run(SCRIPT, *map(str, arguments), env=runtime)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_child_of_a_caller_that_ignores_its_children_is_waited_for() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        clean_start.expect_children()
        assert run("false").returncode == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_socket_of_a_users_daemon_is_the_users_alone(tmp_path: Path) -> None:
    """What root's tells others: test_said.py."""
    listening = control.listen(str(tmp_path / "user.sock"), everybody=False)
    assert os.stat(listening.path).st_mode & 0o777 == 0o600
    listening.close()
