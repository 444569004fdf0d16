"""`lazyfs exec` runs a command that sees mounts of its own, as root and as a user, and leaves nothing behind
however it ends."""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.mount_points import MissingPoint, missing_points
from lazyfs.runtimes.watcher import children
from tests.support.busybox import busybox_root
from tests.support.cli import lazyfs, new_repository, serving
from tests.support.counts import count
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, lazyfs_of, search_path
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
USERS = {"root": None, "user": NOBODY}
END_SECONDS = count(60, 5)
"""Seconds within which everything must be gone after a signal. The limit is long in the ordinary tier, since
other tests run beside it."""


class Caller(NamedTuple):
    """A user with a repository and a cache."""

    user: int | None
    store: Path
    cache: Path
    runtime: Path
    """A directory for sockets and locks, used by this caller alone."""

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": search_path(), "LAZYFS_RUNTIME_DIR": str(self.runtime)}

    def command(
        self, *arguments: str, source: str | None = None, at: str = "/cvmfs/exec.example"
    ) -> list[str]:
        trust = ("--trust", str(self.store / "metadata/1.root.json"))
        mount = ("--mount", f"{source or self.store}={at}", "--cache", str(self.cache))
        return [*lazyfs_of(self.user), "exec", *mount, *trust, "--", *arguments]

    def run(
        self, *arguments: str, given: str = "", source: str | None = None, at: str = "/cvmfs/exec.example"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, source=source, at=at),
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd="/",
            env={**self.environment, "GREETING": "of the caller"},
        )

    @contextlib.contextmanager
    def started(self, script: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
        """Starts a shell script beside the mount. Yields its process and its output, once the script has
        written the line `ready`. The input stays open until the block ends."""
        with subprocess.Popen(
            self.command("sh", "-c", script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process, process.stdout

    def processes(self) -> list[int]:
        """Returns the ids of the processes with the cache's path on their command line: `lazyfs exec` itself,
        and all of lazyfs's processes that it needs."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.fsencode(self.cache) in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
        return found

    def remains(self) -> list[str]:
        """Returns what is left on the machine: processes, mounts, sockets and locks."""
        left = [path.name for path in self.runtime.iterdir() if not path.name.startswith("runtime-")]
        mounts = [
            line
            for line in Path("/proc/mounts").read_text(errors="surrogateescape").splitlines()
            if str(self.store) in line
        ]
        return [*map(str, self.processes()), *mounts, *left]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a repository with a small image, a file and a program."""
    work = tmp_path_factory.mktemp("exec")
    root = busybox_root(work / "image", "cat")
    (root / "file").write_text("from the mount\n")
    (root / "tool").write_text('#!/bin/sh\necho tool "$@"; exit 9\n')
    (root / "tool").chmod(0o755)
    open_to_all(root)
    store, keys = new_repository(work)
    lazyfs("publish", f"dir:{root}", store, "--as", "image", "--keys", keys)
    open_to_all(store)
    return store


@pytest.fixture(params=USERS)
def caller(request: pytest.FixtureRequest, store: Path, open_path: Path) -> Caller:
    user = USERS[request.param]
    return _caller(store, open_path, user)


def _caller(store: Path, open_path: Path, user: int | None) -> Caller:
    for name in ("cache", "sockets"):
        (open_path / name).mkdir(mode=0o700)
        if user is not None:
            os.chown(open_path / name, user, user)
    return Caller(user, store, open_path / "cache", open_path / "sockets")


def test_a_command_sees_the_mount_and_is_the_callers(caller: Caller) -> None:
    """The command sees /cvmfs, which this machine does not have. Its user, working directory, environment,
    streams and files are the caller's."""
    assert not os.path.exists("/cvmfs")
    done = caller.run(
        "sh",
        "-c",
        "cat /cvmfs/exec.example/image/file; id -u; pwd; echo $GREETING; cat; ls -A /; ls -A /etc; "
        "echo x >&2; exit 5",
        given="given\n",
    )
    head = ["from the mount", str(caller.user or 0), "/", "of the caller", "given"]
    assert done.stdout.splitlines()[:5] == head
    assert sorted(done.stdout.splitlines()[5:]) == sorted([*os.listdir("/"), "cvmfs", *os.listdir("/etc")])
    assert (done.stderr, done.returncode) == ("x\n", 5)
    assert not os.path.exists("/cvmfs")
    assert caller.remains() == []


def test_a_program_of_the_mount_and_a_container_from_it(caller: Caller) -> None:
    done = caller.run("/cvmfs/exec.example/image/tool", "--help", "two words")
    assert (done.stdout, done.returncode) == ("tool --help two words\n", 9)
    inner = [*lazyfs_of(None)] if caller.user is None else [*lazyfs_of(caller.user)[4:]]
    done = caller.run(*inner, "run", "/cvmfs/exec.example/image", "--", "cat", "/file")
    assert (done.stdout, done.stderr) == ("from the mount\n", "")


def test_exit_codes(caller: Caller) -> None:
    for command, code in (
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "exit 125"), 125),
        (("/none",), 127),
        (("/etc/passwd",), 126),
    ):
        done = caller.run(*command)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == (1 if command[0].startswith("/") else 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command_and_no_daemon(caller: Caller, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = (
        f"trap 'cat /cvmfs/exec.example/image/file; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    )
    with caller.started(script) as (process, output):
        process.send_signal(number)
        assert output.read() == "from the mount\n"
    assert process.returncode == 3
    assert caller.remains() == []


def test_what_the_command_leaves_in_the_background_ends(caller: Caller) -> None:
    script = f"setsid sh -c 'trap \"\" TERM HUP; sleep 1000 # {caller.cache}' >/dev/null 2>&1 & echo done"
    assert caller.run("sh", "-c", script).stdout == "done\n"
    assert caller.remains() == []


def test_any_process_of_it_killed_ends_all(caller: Caller) -> None:
    """Kills one of the five nested processes of `lazyfs exec` in each round, from the outermost to the
    innermost; lazyfs/runtimes/beside_mounts.py names them. All others must end too."""
    for number in range(5):
        script = f"setsid sleep 1000 & echo ready; cat # {caller.cache}"
        with caller.started(script) as (process, output):
            chain = [process.pid]
            for _ in range(number):
                below = Path(f"/proc/{chain[-1]}/task/{chain[-1]}/children").read_text().split()
                chain.append(int(below[-1]))
            os.kill(chain[number], signal.SIGKILL)
            assert output.read() == ""
        until(lambda: caller.remains() == [], END_SECONDS)


def test_a_broken_pipe_ends_no_mount(caller: Caller) -> None:
    """A daemon writes to sockets of servers and of other processes, which may be closed at any time. The
    command's own SIGPIPE ends it, as everywhere."""
    script = "echo ready; read line; cat /cvmfs/exec.example/image/file; kill -PIPE $$"
    with caller.started(script) as (process, output):
        assert process.stdin is not None
        (watcher,) = children(process.pid)
        (keeper,) = children(watcher)
        daemon, _ = children(keeper)
        os.kill(daemon, signal.SIGPIPE)
        process.stdin.write("\n")
        process.stdin.close()
        assert output.read() == "from the mount\n"
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.timeout(900)
def test_an_end_at_any_moment_leaves_nothing(caller: Caller) -> None:
    moments = random.Random(str(caller.user))
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * count(1, 30):
        with subprocess.Popen(
            # the command has the cache's path on its command line, so that `remains` finds it
            caller.command("bash", "-c", 'exec -a "$0" sleep 1000', str(caller.cache)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=caller.environment,
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.05, 1.5))
            process.send_signal(number)
            try:
                process.wait(END_SECONDS)
            finally:
                process.kill()
        assert process.returncode != 0
        until(lambda: caller.remains() == [], END_SECONDS)


ENDLESS_TRIAL = """
import os, sys, time
from lazyfs.cli.quick import main
from lazyfs.runtimes import beside_mounts
def mount_proc():
    open(os.environ["BEGUN"], "w").close()
    time.sleep(1000)
beside_mounts._mount_proc = mount_proc
sys.exit(main())
"""
"""Runs lazyfs with a trial of a PID namespace that never ends. Process 1 of the namespace ignores SIGTERM."""
ENDLESS_MOUNT = """
import os, signal, sys, time
from lazyfs.cli.quick import main
from lazyfs.daemon import process
def run(*_, **__):
    if not os.fork() and not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(os.environ["BEGUN"], "w").close()
    time.sleep(1000)
process.run = run
sys.exit(main())
"""
"""Runs lazyfs with a daemon that never gets to serve its mount, and that has a grandchild, which ignores
SIGTERM."""


@pytest.mark.parametrize("program", [ENDLESS_TRIAL, ENDLESS_MOUNT], ids=["trial", "mount"])
def test_a_signal_before_the_command_ends_the_start(caller: Caller, program: str) -> None:
    """The signal goes to none of the processes that prepare the start, and could ignore it, in place of the
    command: the start ends."""
    mark = caller.cache / "mark"
    words = caller.command("sleep", "1000")
    place = words.index("-m")
    words[place : place + 2] = ["-c", program]
    with subprocess.Popen(words, env={**caller.environment, "BEGUN": str(mark)}) as process:
        try:
            until(mark.exists)
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    until(lambda: caller.remains() == [], END_SECONDS)


def test_many_share_one_cache(caller: Caller) -> None:
    """The second caller finds everything in the cache, although the server is gone."""
    with serving(caller.store) as url:
        first = [
            subprocess.Popen(
                caller.command("cat", "/cvmfs/exec.example/image/file", source=url),
                stdout=subprocess.PIPE,
                text=True,
                env=caller.environment,
            )
            for _ in range(3)
        ]
        assert [process.communicate()[0] for process in first] == ["from the mount\n"] * 3
    done = caller.run("cat", "/cvmfs/exec.example/image/file", source=url)
    assert done.stdout == "from the mount\n"


def test_a_mount_that_cannot_be_made_is_one_line(caller: Caller) -> None:
    done = caller.run("echo", "started", source="/none/store")
    assert (done.stdout, done.returncode) == ("", 125)
    assert len(done.stderr.splitlines()) == 1
    assert "/none/store" in done.stderr
    assert caller.remains() == []


def test_an_existing_directory_is_taken_as_it_is(caller: Caller, open_path: Path) -> None:
    there = open_path / "exec.example"
    there.mkdir()
    done = caller.run(
        "sh", "-c", f"cat {there}/image/file; touch {caller.cache}/new && echo made", at=str(there)
    )
    assert done.stdout == "from the mount\nmade\n"
    assert (caller.cache / "new").exists()
    assert list(there.iterdir()) == []


def test_a_container_that_covers_its_proc_gives_no_pid_namespace(store: Path, open_path: Path) -> None:
    """The kernel does not allow a new /proc there, so no PID namespace can be made. The command still
    runs."""
    caller = _caller(store, open_path, NOBODY)
    outer = ["bwrap", "--unshare-user", "--dev-bind", "/", "/", "--ro-bind", "/proc/version", "/proc/cpuinfo"]
    identity, start = lazyfs_of(NOBODY)[:4], caller.command("cat", "/cvmfs/exec.example/image/file")[4:]
    done = subprocess.run(
        [*identity, *outer, *start],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=caller.environment,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("from the mount\n", "", 0)
    until(lambda: caller.processes() == [], END_SECONDS)


def test_mount_points_are_made_where_no_file_of_the_callers_would_vanish(tmp_path: Path) -> None:
    assert missing_points(["/cvmfs/a/b", "/etc"]) == [MissingPoint("/", ("cvmfs", "a", "b"))]
    with pytest.raises(UsageError, match="make it first: mkdir -p"):
        missing_points([str(tmp_path / "new")])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is no directory"):
        missing_points([str(tmp_path / "file/new")])
