"""The behaviour that every runtime must share, as root and as a user: signals, ends, odd texts, no
leftovers."""

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from lazyfs.system.control_groups import enter_group
from tests.support.busybox import busybox_root
from tests.support.control_group import groups_of_starts
from tests.support.counts import count
from tests.support.docker import docker_daemon
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
    busybox_root(root, "sh", "cat", "ls", "env", "sleep", "id", "printenv", "printf")
    open_to_all(root)
    return root


WAYS = [
    (runtime, user) for runtime in RUNTIMES for user in USERS if user == "root" or runtime not in ROOTS_ONLY
]


@pytest.fixture(scope="module", autouse=True)
def docker() -> Iterator[str]:
    with docker_daemon() as socket:
        yield socket


@pytest.fixture(params=WAYS, ids=[f"{runtime}-{user}" for runtime, user in WAYS])
def start(request: pytest.FixtureRequest, image: Path) -> Start:
    runtime, user = request.param
    return Start(runtime, USERS[user], image)


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    with groups_of_starts() as found:
        yield found


class Row(NamedTuple):
    """A row of the table of exit codes in docs/running.md."""

    code: str
    failed: str


OF_NO_RUNTIME = (
    "the runtime failed before the program",
    "no such image",
    "no runtime works here, or can do it",
)
"""Rows of the table that test_ends_of_no_runtime tries, with one runtime only."""


def exit_codes() -> dict[str, Row]:
    """Returns the table of exit codes in docs/running.md: end -> row."""
    text = (Path(__file__).parents[2] / "docs/running.md").read_text()
    table = text.split("### Exit codes\n")[1].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {end: Row(code, failed.strip("`")) for code, end, failed in cells}


def test_ends_of_no_runtime(image: Path, tmp_path: Path) -> None:
    """Tries three failures: a runtime whose probe succeeds but whose start fails, a missing image, and a
    runtime that does not work."""
    broken, flag = tmp_path / "bwrap", tmp_path / "flag"
    broken.write_text(f'#!/bin/sh\n[ -e {flag} ] && exit 9\nexec bwrap "$@"\n')
    broken.chmod(0o755)
    (tmp_path / "run.toml").write_text(f'[programs]\nbubblewrap = "{broken}"\ncrun = "/bin/false"\n')
    (tmp_path / "memory").mkdir(mode=0o700)
    environment = {
        "LAZYFS_RUN_SETTINGS": str(tmp_path / "run.toml"),
        "LAZYFS_RUNTIME_DIR": str(tmp_path / "memory"),
    }

    def ended(root: Path, runtime: str) -> Row:
        result = tmp_path / "result"
        command = [str(root), "--runtime", runtime, "--result", str(result), "--", "sh", "-c", "exit 0"]
        done = run(command, environment=environment)
        return Row(str(done.returncode), json.loads(result.read_text())["failed"] or "null")

    assert ended(image, "bubblewrap") == ("0", "null")
    flag.touch()
    rows = exit_codes()
    assert ended(image, "bubblewrap") == rows["the runtime failed before the program"]
    assert ended(tmp_path / "none", "bubblewrap") == rows["no such image"]
    assert ended(image, "crun") == rows["no runtime works here, or can do it"]


def _ended(start: Start, *arguments: str) -> tuple[int, bool, object]:
    done = start.run("--json", *arguments)
    said = json.loads(done.stderr.splitlines()[-1])
    assert said["exit_code"] == done.returncode
    if said["failed"] not in (None, "program"):
        print(done.stderr)  # for whoever reads why a test failed
    return done.returncode, said["started"], said["failed"]


def test_ends_are_told_apart(start: Start) -> None:
    assert _ended(start, "--", "sh", "-c", "exit 0") == (0, True, None)
    for code in (1, 49, 125, 126, 127, 255):  # codes that runtimes use for failures of their own
        assert _ended(start, "--", "sh", "-c", f"exit {code}") == (code, True, "program")
    assert _ended(start, "--", "sh", "-c", "kill -9 $$") == (137, True, "program")


def test_ends_are_those_of_the_table(start: Start, tmp_path: Path) -> None:
    """Tries each row of the table of exit codes in docs/running.md, except those in OF_NO_RUNTIME."""
    (start.image / "bin/text").write_text("text")
    elf = bytearray(Path("/bin/busybox").read_bytes()[:64])
    elf[18:20] = (22).to_bytes(2, "little")  # e_machine of s390x
    (start.image / "bin/foreign").write_bytes(elf)
    (start.image / "bin/foreign").chmod(0o755)
    ends = {
        "the program's own": (31, ("--", "sh", "-c", "exit 31")),
        "signal N ended the program": (128 + 15, ("--", "sh", "-c", "kill -15 $$")),
        "the command is not in the image": (127, ("--", "none")),
        "the command is no executable file": (126, ("--", "text")),
        "the working directory is not in the image": (125, ("--pwd", "/none", "--", "sh")),
        "the image is for another machine": (125, ("--", "foreign")),
        "wrong use: an option, a bind, a variable": (2, ("-B", "/usr:/proc/1/x", "--", "sh")),
    }
    rows = exit_codes()
    assert set(rows) == {*ends, *OF_NO_RUNTIME}
    open_to_all(tmp_path)
    for end, (code, arguments) in ends.items():
        result = tmp_path / "result"
        result.touch()
        result.chmod(0o666)
        done = start.run("--result", str(result), *arguments)
        assert done.returncode == code, (end, done.stderr)
        assert json.loads(result.read_text())["failed"] == rows[end].failed, end
        assert rows[end].code in (str(code), {31: "0 to 255", 143: "128+N"}.get(code)), end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program(start: Start, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    # SIGINT reaches all processes. A shell whose foreground child dies of it may end with 130 in its trap.
    script = f"trap 'echo got; exit 3' {name}; sleep 1000 >/dev/null 2>&1 & echo ready; wait"
    with _running(start, script) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.read() == "got\n"
    assert process.returncode == 3


def test_a_program_without_a_handler_is_ended_by_a_signal(start: Start) -> None:
    """Such a program would ignore the signal if it were process 1 of a PID namespace."""
    with _running(start, "echo ready; exec sleep 1000") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert process.returncode == 143


def test_a_killed_start_leaves_no_process_and_no_directory(start: Start) -> None:
    before = _directories()
    with _running(start, "trap '' 1 2 15; echo ready; sleep 1000 & while :; do sleep 1; done") as process:
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == ""  # a survivor would hold the pipe open
    left = _directories() - before  # of this start, or of tests beside this one
    until(lambda: not left & _directories(), END_SECONDS)
    assert "lazyfs-run-" not in Path("/proc/mounts").read_text(errors="surrogateescape")


def test_what_a_program_leaves_in_the_background_ends_with_it(start: Start) -> None:
    """The child of the program holds none of the caller's streams, so nothing but its process keeps the start
    from ending. A start that waits for it reaches the time limit of `run`."""
    before = _remains(start.image, [])
    marker = f"1000.{os.getpid()}{start.user or 0}"  # in no other test's command lines
    done = start.run("--", "sh", "-c", f"sleep {marker} </dev/null >/dev/null 2>&1 & exit 3")
    assert done.returncode == 3
    assert _processes_with(marker) == []
    left = _remains(start.image, []) - before  # of this start, or of tests beside this one
    until(partial(_are_gone, left, start.image, []), END_SECONDS)


def test_texts_reach_the_program_as_they_are(start: Start) -> None:
    """No runtime takes any of these texts for an option, a variable, a second line or a library to load."""
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
        "F": "'quoted'",
        "G": "''",
        "H": "'",
        "I": "'''",
        "J": "'one' 'two'",
        "K": '"double"',
        "L": "/a:$HOME:${PATH}::",
        "M": "\\n\\\\t\\",
        "N": "\t tab \t",
        "O": "# no comment",
        "P": "",
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
    """The environment has settings for runtimes (APPTAINER_BIND, CONTAINERS_CONF, ...), as in a job that
    itself runs in a container. They change nothing in the start, and do not reach the program."""
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
def test_a_start_ended_at_any_moment_leaves_nothing(start: Start, groups: list[Path]) -> None:
    """`lazyfs run` is ended by each signal, at random moments of the start and of the program. No process,
    directory, mount or control group may remain."""
    before = _remains(start.image, groups)

    def enter() -> None:
        for group in groups:
            enter_group(str(group))

    moments = random.Random(start.runtime)
    # in the command lines of the runtime and of the program, and of no other test's
    marker = f"1000.{os.getpid()}{start.user or 0}"
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * ROUNDS:
        command = [*lazyfs_of(start.user), "run", *start.command("--", "sleep", marker)]
        environment = {**os.environ, "PATH": search_path()}
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=enter,  # noqa: PLW1509 - no threads here
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.05, 1.5))
            process.send_signal(number)
            try:
                process.communicate(timeout=END_SECONDS)  # a survivor would hold the pipes open
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{number.name}: {_holders(process)}") from None
            finally:
                process.kill()
        assert process.returncode != 0
        until(lambda: not _processes_with(marker), END_SECONDS)
        left = _remains(start.image, groups) - before  # of this start, or of tests beside this one
        until(partial(_are_gone, left, start.image, groups), END_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_ended_while_it_tries_a_runtime_leaves_nothing(
    image: Path, tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "LAZYFS_RUNTIME_DIR": "/proc/none", "TMPDIR": str(tmp_path)}
    command = [*lazyfs_of(None), "run", str(image), "--runtime", "crun", "--", "sh", "-c", "exit 0"]
    with subprocess.Popen(command, env=environment) as process:
        until(lambda: any(tmp_path.glob("lazyfs-trial-*/usr")))
        process.send_signal(number)
    assert process.returncode != 0
    until(lambda: not any(tmp_path.iterdir()), END_SECONDS)


END_SECONDS = count(60, 5)
"""Seconds within which everything must be gone after the end of a start. The limit is long in the ordinary
tier, since other tests run beside it."""
_OF_RUNTIMES = ("lazyfs-run-", "libpod", "conmon", "crun", "runc", "bundle-temp", "build-temp")
"""Beginnings of the names that a runtime, or lazyfs for it, would leave behind."""


def _holders(process: subprocess.Popen[bytes]) -> list[str]:
    """Returns the command lines of the processes that hold the other end of a process's output."""
    assert process.stdout is not None
    pipe = os.readlink(f"/proc/self/fd/{process.stdout.fileno()}")
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.name != str(os.getpid()) and pipe in map(os.readlink, (path / "fd").glob("*")):
                found.append(f"{path.name}: {(path / 'cmdline').read_bytes().decode(errors='replace')}")
    return found


def _remains(image: Path, groups: list[Path]) -> set[str]:
    """Returns the files, directories and mounts of runtimes that are there now, the files beside the image,
    and the control groups below `groups`."""
    found = {str(path) for path in image.parent.iterdir()}
    found |= {f"/tmp/{name}" for name in os.listdir("/tmp") if name.startswith(_OF_RUNTIMES)}
    found |= {
        line
        for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        if "/lazyfs-run-" in line
    }
    return found | {str(path) for group in groups for path in group.iterdir() if path.is_dir()}


def _are_gone(left: set[str], image: Path, groups: list[Path]) -> bool:
    return not left & _remains(image, groups)


def _processes_with(word: str) -> list[str]:
    """Returns the ids of the processes that have a word in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_the_caller_is_hidden(start: Start) -> None:
    """lazyfs's probe checks, inside the sandbox, the MUST and SHOULD items of WLCG's policy."""
    command = [*lazyfs_of(start.user), "run", "--check-isolation", "--runtime", start.runtime, "--json"]
    # no result of a probe can be remembered there, so the runtime is tried
    environment = {**os.environ, "PATH": search_path(), "LAZYFS_RUNTIME_DIR": "/proc/none"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (answer,) = json.loads(done.stdout)["runtimes"]
    failed = [check["name"] for check in answer["checks"] if not check["passed"]]
    # ch-run leaves root the capabilities of its user namespace; a daemon's containers are not below Landlock
    lacking = {"charliecloud": ["no capability"], "docker": ["abstract sockets hidden"]}
    assert failed == (lacking.get(start.runtime, []) if start.user is None else [])
    assert len(answer["checks"]) == 10
    done = start.run("--isolation", "wlcg", "--json", "--", "sh", "-c", "exit 0")
    assert json.loads(done.stderr)["isolation"] == "wlcg"


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "systemd-nspawn"])
def test_root_starts_programs_of_a_user(image: Path, tmp_path: Path, runtime: str) -> None:
    """The program can use the user's files and not root's, whatever user ID it sees. It has no supplementary
    groups, and receives signals. The user is NOBODY, because apptainer requires a user with a name."""
    open_to_all(tmp_path)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "roots").mkdir(mode=0o700)
    os.chown(tmp_path / "mine", NOBODY, NOBODY)
    script = "echo x >/bound/mine/new; ls /bound/roots; id -G; trap 'exit 3' TERM; kill -TERM $$"
    bind = ("--runtime", runtime, "--user", str(NOBODY), "-B", f"{tmp_path}:/bound")
    done = run([str(image), *bind, "--", "sh", "-c", script])
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "mine/new").stat().st_uid == NOBODY
    assert "'/bound/roots': Permission denied" in done.stderr
    assert done.stdout in ("0\n", f"{NOBODY}\n")


def test_without_network_there_is_a_loopback_only(start: Start) -> None:
    done = start.run("--network", "none", "--", "cat", "/proc/net/dev")
    names = [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]]
    assert names == ["lo"]


def test_what_the_image_leads_into_a_bind_is_found_there(start: Start, open_path: Path) -> None:
    """The image of a light start has links to the command and the directory, which only the bind has."""
    root = busybox_root(open_path / "image", "sh", "pwd", "cat")
    (root / "opt").mkdir()
    (root / "bin/tool").symlink_to("/software/bin/tool")
    (root / "opt/sw").symlink_to("/software")
    (open_path / "sw/bin").mkdir(parents=True)
    (open_path / "sw/data").mkdir()
    (open_path / "sw/bin/tool").write_text("#!/bin/sh\ncat file\n")
    (open_path / "sw/bin/tool").chmod(0o755)
    (open_path / "sw/data/file").write_text("found\n")
    open_to_all(root)
    options = ("-B", f"{open_path}/sw:/software:ro", "--pwd", "/opt/sw/data")
    done = start._replace(image=root).run(*options, "--", "tool")
    assert (done.stdout, done.stderr, done.returncode) == ("found\n", "", 0)


def test_binds_in_one_another_are_seen_whatever_their_order(start: Start, open_path: Path) -> None:
    """The target of one bind leads into the other, which the texts of the targets do not show."""
    root = busybox_root(open_path / "image", "sh", "cat")
    (root / "mnt/big/data").mkdir(parents=True)
    (root / "data").symlink_to("/mnt/big/data")
    for name in ("inner", "outer/big/data"):
        (open_path / name).mkdir(parents=True)
        (open_path / name / "name").write_text(f"{name}\n")
    open_to_all(open_path)
    binds = [["-B", f"{open_path}/inner:/data:required"], ["-B", f"{open_path}/outer:/mnt"]]
    for first, second in (binds, binds[::-1]):
        done = start._replace(image=root).run(
            *first, *second, "--", "cat", "/data/name", "/mnt/big/data/name"
        )
        assert (done.stdout, done.stderr) == ("inner\ninner\n", "")
    (open_path / "outer/big/data/name").unlink()
    (open_path / "outer/big/data").rmdir()
    for first, second in (binds, binds[::-1]):
        done = start._replace(image=root).run(*first, *second, "--", "cat", "/data/name")
        assert (done.stdout, done.returncode) == ("", 2)
        assert "/outer/big/data does not exist on this machine; make it first" in done.stderr


def test_a_device_can_be_bound(start: Start) -> None:
    """The device can be opened for writing too. The directory of the bind's target is made if it is
    missing."""
    done = start.run(
        "-B", "/dev/zero:/elsewhere/zero", "--", "sh", "-c", "echo x >/elsewhere/zero && echo opened"
    )
    if start.runtime == "apptainer":
        assert "apptainer binds no device that can be opened" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("opened\n", "")


class _running:  # noqa: N801 - a context, as in `with open`
    """A context manager that runs a shell script with `lazyfs run`. Waits until the script has printed
    `ready`, yields the process, and kills it at the end."""

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
