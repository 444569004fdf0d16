"""Real starts with bubblewrap on a small root filesystem, as root and as a user without rights."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import RunOptions, prepare
from lazyfs.runtimes.watcher import children
from lazyfs.system.bounded_look import ask_each
from tests.support.busybox import busybox_root
from tests.support.until import until

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Makes an image of busybox alone, without /etc, /proc, /dev and /tmp."""
    return busybox_root(
        tmp_path / "image", "sh", "cat", "ls", "touch", "id", "env", "sleep", "echo", "kill", "stat"
    )


def lazyfs(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lazyfs", "run", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lazyfs(*arguments), capture_output=True, text=True, timeout=60, check=False)


def test_a_program_runs_and_its_exit_code_is_passed_on(root: Path) -> None:
    done = run(root, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_the_program_sees_nothing_of_the_host(root: Path) -> None:
    done = run(root, "--", "sh", "-c", "ls /; echo $$; env")
    listing, _, rest = done.stdout.partition("tmp\n")
    assert listing.split() == ["bin", "dev", "etc", "proc"]
    assert rest.splitlines()[0] == "2"  # its own pid namespace, below an init
    names = {line.partition("=")[0] for line in rest.splitlines()[1:]}
    assert names == {"PATH", "HOME", "PWD", "SHLVL"}


def test_the_image_cannot_be_written_and_tmp_can(root: Path) -> None:
    done = run(root, "--", "sh", "-c", "touch /tmp/x && touch /bin/x /x /etc/x")
    assert done.returncode == 1
    assert done.stderr.count("Read-only file system") == 3
    assert not (root / "bin/x").exists()


def test_binds_environment_and_working_directory(root: Path, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "in").write_text("hello")
    binds = ("-B", f"{host}:/made/deep", "-B", f"{host}:/cvmfs:ro")
    script = "cat in; echo $V >out; touch /cvmfs/no; stat -c %a /made"
    done = run(root, *binds, "--env", "V=value", "--pwd", "/made/deep", "--", "sh", "-c", script)
    assert done.stdout == "hello755\n"
    assert "Read-only" in done.stderr
    assert (host / "out").read_text() == "value\n"
    assert sorted(os.listdir(root)) == ["bin"]


def test_a_missing_bind_source_is_left_out_with_a_warning(root: Path, tmp_path: Path) -> None:
    done = run(root, "-B", f"{tmp_path}/none:/x", "--", "sh", "-c", "[ ! -e /x ]")
    assert done.returncode == 0
    assert (
        done.stderr == f"lazyfs: bind source {tmp_path}/none does not exist on this machine; it is left out\n"
    )


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_the_program(root: Path, number: signal.Signals) -> None:
    script = (
        f"trap 'echo got; exit 3' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    )
    with subprocess.Popen(
        lazyfs(root, "--", "sh", "-c", script), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "got\n"
    assert process.returncode == 3


def test_a_killed_runner_leaves_no_program_behind(root: Path) -> None:
    with subprocess.Popen(
        lazyfs(root, "--", "sh", "-c", "echo r; exec sleep 1000"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"r\n"
        process.kill()
        assert process.stdout.read() == b""  # the program, if alive, would hold the pipe open


def _depth(runner: int) -> int:
    """Returns how many generations of processes there are below the process `runner`, counted from its forks
    (the watcher) on: 0 to 3. Ignores a trial run of bwrap."""
    forks = [pid for pid in children(runner) if b"lazyfs" in _command_line(str(pid))]
    below = [pid for fork in forks for pid in children(fork)]
    return bool(forks) + bool(below) + any(children(pid) for pid in below)


@pytest.mark.parametrize("depth", [1, 2, 3], ids=["watcher", "bwrap", "bwrap's child"])
def test_a_runner_killed_in_its_first_moments_leaves_nothing_either(root: Path, depth: int) -> None:
    """The runner is killed as soon as it has `depth` generations of descendants. At that time, bwrap's child
    may not yet be set to die with its parent."""
    for _ in range(5):
        with subprocess.Popen(lazyfs(root, "--", "sleep", "1000"), stdout=subprocess.PIPE) as process:
            until(lambda: depth <= _depth(process.pid))
            process.kill()
            assert process.communicate(timeout=30)[0] == b""  # a survivor would hold the pipe open


def test_a_runtime_that_cannot_be_started_is_one_line(root: Path, tmp_path: Path) -> None:
    """The runtime is found on PATH and passes the trial run, but is no program any more when it is needed."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin/bwrap"
    (tmp_path / "none").write_text("#!/none\n")
    (tmp_path / "none").chmod(0o755)
    last = f'case "$*" in *" true") mv {tmp_path}/none {broken};; esac'
    broken.write_text(f'#!/bin/sh\n{last}\nexec {shutil.which("bwrap")} "$@"\n')
    broken.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        lazyfs(root, "--", "sh"), capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "bwrap cannot be started" in done.stderr


def test_how_it_failed_is_told_apart(root: Path) -> None:
    def ended(*command: str) -> tuple[int, object]:
        done = run(root, "--json", "--", *command)
        return done.returncode, json.loads(done.stderr.splitlines()[-1])["failed"]

    assert ended("sh", "-c", "exit 0") == (0, None)
    assert ended("sh", "-c", "exit 125") == (125, "program")
    assert ended("sh", "-c", "kill -9 $$") == (137, "program")
    assert ended("none") == (127, "program")
    (root / "bin/unexecutable").touch(mode=0o644)
    assert ended("unexecutable") == (126, "program")


def test_explain_shows_the_plan_and_no_secret_and_runs_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    bind = ("-B", f"{tmp_path}/host:/srv")
    script = "touch /srv/ran"
    done = run(root, *bind, "--env", "TOKEN=hunter2", "--explain", "--json", "--", "sh", "-c", script)
    plan = json.loads(done.stdout)
    assert plan["runtime"] == "bubblewrap"
    assert plan["probes"][0]["usable"] is True
    assert plan["argv"][0] == "bwrap"
    assert plan["argv"][-4:] == ["--", "sh", "-c", script]
    assert "hunter2" not in done.stdout
    assert not (tmp_path / "host/ran").exists()


def test_the_environment_is_not_visible_to_others_on_the_machine(root: Path) -> None:
    command = lazyfs(root, "--env", "TOKEN", "--", "sh", "-c", "echo $TOKEN; exec sleep 1000")
    environment = {**os.environ, "TOKEN": "hunter2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hunter2\n"
        visible = b"".join(_command_line(pid) for pid in os.listdir("/proc") if pid.isdigit())
        process.kill()
    assert b"bwrap\x00--json-status-fd" in visible
    assert b"hunter2" not in visible


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("/none", "--", "sh"), "image /none: no such directory"),
        (("/usr",), "names no command to run"),
        (
            ("/usr", "--runtime", "magic", "--", "sh"),
            "runtime 'magic' is not known; choose one of: bubblewrap, apptainer,",
        ),
        (("/usr", "--env", "NOT_SET_ANYWHERE", "--", "sh"), "--env NOT_SET_ANYWHERE"),
        (("/usr", "--user", "nobody-of-that-name", "--", "sh"), "--user nobody-of-that-name: no such user"),
        (("/usr", "--user", "0:no-such-group", "--", "sh"), "--user 0:no-such-group: no such user or group"),
        (("/usr", "--user", "99999999999", "--", "sh"), "--user 99999999999: 99999999999 is no user"),
        (("/usr", "--user", "9" * 5000, "--", "sh"), "is no user or group: their numbers are 0 to"),
        (("/usr", "--user", "4294967295", "--", "sh"), "--user 4294967295: 4294967295 is no user"),
        (("/usr", "--user", "1000:4294967295", "--", "sh"), "4294967295 is no user or group"),
        (("/usr", "--user", "-1", "--", "sh"), "--user -1: no such user"),
        (("/usr", "-B", "/usr:/proc/1/root/x", "--", "sh"), "bind target /proc/1/root/x: leads to /proc"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_bubblewrap_the_error_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run(root, "--runtime", "bubblewrap", "--", "sh")
    assert done.returncode == 2
    assert "bubblewrap: bwrap is not on PATH; install the package bubblewrap" in done.stderr


@pytest.mark.root
def test_only_root_can_start_as_another_user(root: Path) -> None:
    def as_nobody() -> str:
        os.setuid(NOBODY)
        with pytest.raises(UsageError, match="only root can start a program as another user") as caught:
            prepare(str(root), ("sh",), RunOptions(user=(0, 0)))
        return str(caught.value)

    (answer,) = ask_each([as_nobody], 60, patience=0, enough=bool)
    assert "only root" in answer.value


@pytest.mark.root
def test_a_program_can_be_started_as_a_user_of_a_name(root: Path) -> None:
    for place in (root, *root.parents):
        if place.stat().st_uid == os.getuid() and str(place) not in ("/", "/tmp"):
            place.chmod(place.stat().st_mode | 0o755)
    script = "id -u; id -g; id -G"
    assert run(root, "--user", "nobody", "--", "sh", "-c", script).stdout.split() == ["65534"] * 3
    assert run(root, "--user", "1234:0", "--", "sh", "-c", script).stdout.split() == ["1234", "0", "0"]


@pytest.mark.root
def test_a_user_without_rights_runs_it_too(root: Path, tmp_path: Path) -> None:
    """bwrap runs as another user with the runner's argument list, because that user may have no access to the
    interpreter."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and str(directory) != "/tmp" and str(directory) != "/":
            directory.chmod(directory.stat().st_mode | 0o755)
    (tmp_path / "host").mkdir(mode=0o777)
    options = ("-B", f"{tmp_path}/host:/new/place", "--user", str(NOBODY), "--explain", "--json")
    script = "id -u; ls /new; touch /new/place/x /no"
    argv = json.loads(run(root, *options, "--", "sh", "-c", script).stdout)["argv"]
    (tmp_path / "host").chmod(0o777)
    done = subprocess.run(
        argv, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{NOBODY}\nplace\n"
    assert "/no: Read-only file system" in done.stderr
    assert (tmp_path / "host/x").stat().st_uid == NOBODY
