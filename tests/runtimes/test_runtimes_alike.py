"""The behaviour that every runtime must share, as root and as a user: signals, ends, odd texts, no
leftovers."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.counts import count
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, ROOTS_ONLY, RUNTIMES, lazyfs_of, run, search_path
from tests.support.until import until

pytestmark = pytest.mark.root

USERS = {"root": None, "user": NOBODY}
ROUNDS = count(1, 30)


class Start(NamedTuple):
    """One way to start a program of a small image."""

    runtime: str
    user: int | None
    image: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.image), "--runtime", self.runtime, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.command(*arguments), user=self.user)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes an image of busybox, without /etc, /proc, /dev, /sys and /tmp. Its path has the characters at
    which runtimes split options."""
    root = tmp_path_factory.mktemp("alike") / "image:1,2"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "ls", "env", "sleep", "id", "printenv", "printf"):
        (root / "bin" / name).symlink_to("busybox")
    open_to_all(root)
    return root


WAYS = [
    (runtime, user) for runtime in RUNTIMES for user in USERS if user == "root" or runtime not in ROOTS_ONLY
]


@pytest.fixture(params=WAYS, ids=[f"{runtime}-{user}" for runtime, user in WAYS])
def start(request: pytest.FixtureRequest, image: Path) -> Start:
    runtime, user = request.param
    return Start(runtime, USERS[user], image)


def _ended(start: Start, *arguments: str) -> tuple[int, bool, object]:
    done = start.run("--json", *arguments)
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["exit_code"] == done.returncode
    return done.returncode, said["started"], said["failed"]


def test_ends_are_told_apart(start: Start) -> None:
    assert _ended(start, "--", "sh", "-c", "exit 0") == (0, True, None)
    for code in (1, 31, 49, 125, 126, 127, 255):  # codes that runtimes use for failures of their own
        assert _ended(start, "--", "sh", "-c", f"exit {code}") == (code, True, "program")
    assert _ended(start, "--", "none") == (127, False, "program")
    assert _ended(start, "--pwd", "/none", "--", "sh") == (125, False, "request")
    killed = 255 if start.runtime == "systemd-nspawn" else 137
    assert _ended(start, "--", "sh", "-c", "kill -9 $$") == (killed, True, "program")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program(start: Start, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    with _running(start, script) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.read() == "got\n"
    assert process.returncode == 3


def test_a_program_without_a_handler_is_ended_by_a_signal(start: Start) -> None:
    """A program that is process 1 of its pid namespace would ignore the signal."""
    with _running(start, "echo ready; exec sleep 1000") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert process.returncode == (255 if start.runtime == "systemd-nspawn" else 143)


def test_a_killed_start_leaves_no_process_and_no_directory(start: Start) -> None:
    before = _directories()
    with _running(start, "trap '' 1 2 15; echo ready; sleep 1000 & while :; do sleep 1; done") as process:
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""  # a survivor would hold the pipe open
    until(lambda: _directories() <= before)
    assert "lazyfs-run-" not in Path("/proc/mounts").read_text()


def test_texts_reach_the_program_as_they_are(start: Start) -> None:
    """No runtime takes one of them for an option, a variable, a second line or a library to load."""
    texts = [
        "--",
        "-x",
        "--help",
        "$HOME `id` $(id)",
        "a\tb",
        "quo'te\"s\\",
        "",
        " ",
        "é☃",
        "%s%n",
        "{status}",
    ]
    done = start.run("--", "/bin/printf", "<%s>", *texts)
    assert done.stdout == "".join(f"<{text}>" for text in texts)
    values = {
        "A": "--help",
        "B": "$HOME `id` $(id)",
        "C": "quo'te\"s\\",
        "D": "=x",
        "E": " é ",
        "LD_PRELOAD": "/none.so",
    }
    settings = [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
    done = start.run(*settings, "--", "sh", "-c", "; ".join(f'printf "<%s>" "${name}"' for name in values))
    assert done.stdout == "".join(f"<{value}>" for value in values.values())
    assert done.stderr == ""


def test_a_value_of_several_lines_is_passed_or_refused(start: Start) -> None:
    done = start.run(
        "--env", "A=one\nLD_PRELOAD=/none.so", "--", "sh", "-c", 'printf "<%s>" "$A" "$LD_PRELOAD"'
    )
    if done.returncode == 0:
        assert done.stdout == "<one\nLD_PRELOAD=/none.so><>"
    else:
        assert "takes no value of several lines" in done.stderr
        assert start.runtime in ("charliecloud", "podman", "systemd-nspawn")


def test_the_callers_settings_of_a_runtime_are_not_those_of_the_start(start: Start) -> None:
    """A job that runs in a container has that container's settings in its environment."""
    outer = {
        **dict.fromkeys(("APPTAINER_BIND", "APPTAINER_BINDPATH", "SINGULARITY_BIND"), "/etc:/outer"),
        **dict.fromkeys(("CONTAINERS_CONF", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "TMPDIR", "HOME"), "/none"),
        "DOCKER_HOST": "unix:///none",
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "CH_RUN_NOTHING": "1",
    }
    done = run(
        start.command("--", "sh", "-c", "ls / | grep -c outer; env"), user=start.user, environment=outer
    )
    assert done.stderr == ""
    first, *lines = done.stdout.splitlines()
    assert first == "0"
    assert not [line for line in lines if "/none" in line or "outer" in line]


@pytest.mark.timeout(600)
def test_a_start_ended_at_any_moment_leaves_nothing(start: Start) -> None:
    """A signal at a random moment of the start or of the program leaves no process, directory or mount."""
    before = _directories()
    moments = random.Random(start.runtime)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * ROUNDS:
        command = [*lazyfs_of(start.user), "run", *start.command("--", "sleep", "1000")]
        environment = {**os.environ, "PATH": search_path()}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.05, 1.5))
            process.send_signal(number)
            try:
                process.communicate(timeout=60)  # a survivor would hold the pipes open
            finally:
                process.kill()
        assert process.returncode != 0
    until(lambda: _directories() <= before)
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "/tmp/lazyfs-run-" in line]
    groups = [path for path, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(path) == "lazyfs"]
    assert groups == []  # runc makes a group if it can


def test_the_caller_is_hidden(start: Start) -> None:
    """The MUST and SHOULD items of WLCG's policy, looked at from inside."""
    command = [*lazyfs_of(start.user), "run", "--check-isolation", "--runtime", start.runtime, "--json"]
    # no result of a probe can be remembered there, so the runtime is tried
    environment = {**os.environ, "PATH": search_path(), "LAZYFS_RUNTIME_DIR": "/proc/none"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (answer,) = json.loads(done.stdout)["runtimes"]
    failed = [check["name"] for check in answer["checks"] if not check["passed"]]
    # ch-run leaves root the capabilities of its user namespace
    assert failed == (["no capability"] if (start.runtime, start.user) == ("charliecloud", None) else [])
    assert len(answer["checks"]) == 10
    done = start.run("--isolation", "wlcg", "--json", "--", "sh", "-c", "exit 0")
    assert json.loads(done.stderr)["isolation"] == "wlcg"


def test_without_network_there_is_a_loopback_only(start: Start) -> None:
    done = start.run("--network", "none", "--", "cat", "/proc/net/dev")
    names = [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]]
    assert names == ["lo"]


def test_a_device_can_be_bound(start: Start) -> None:
    """The device can be opened, also for writing. The missing directory for its new name is added."""
    done = start.run(
        "-B", "/dev/zero:/elsewhere/zero", "--", "sh", "-c", "echo x >/elsewhere/zero && echo opened"
    )
    if start.runtime == "apptainer":
        assert "apptainer binds no device that can be opened" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("opened\n", "")


class _running:  # noqa: N801 - a context, as in `with open`
    """Runs a shell script that prints `ready`."""

    def __init__(self, start: Start, script: str) -> None:
        command = [*lazyfs_of(start.user), "run", *start.command("--", "sh", "-c", script)]
        environment = {**os.environ, "PATH": search_path()}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def __enter__(self) -> subprocess.Popen[str]:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _directories() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith("lazyfs-run-")}
