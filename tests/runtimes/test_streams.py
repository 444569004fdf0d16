"""The standard streams of a program: who reads stdin, that every byte passes unchanged, the ownership of
files given as streams, and terminals."""

import hashlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.busybox import busybox_root
from tests.support.docker import docker_daemon
from tests.support.runtimes import WAYS, lazyfs_of, search_path
from tests.support.terminal import INTERRUPT, Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

COPIED_THROUGH = ("docker",)
"""Runtimes whose own processes copy a program's streams."""
SOMEBODY, GROUP = 54321, 54322


class Start(NamedTuple):
    runtime: str
    user: int | None
    image: Path

    def command(self, *arguments: str) -> list[str]:
        return [*lazyfs_of(self.user), "run", str(self.image), "--runtime", self.runtime, "--", *arguments]


@pytest.fixture(scope="module")
def image(open_path_factory: Path) -> Path:
    return busybox_root(open_path_factory / "image", "sh", "cat", "sleep", "tty")


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[dict[str, str]]:
    with docker_daemon():
        yield {**os.environ, "PATH": search_path()}


@pytest.fixture(
    params=WAYS, ids=[f"{runtime}-{'root' if user is None else 'user'}" for runtime, user in WAYS]
)
def start(request: pytest.FixtureRequest, image: Path) -> Start:
    runtime, user = request.param
    return Start(runtime, user, image)


def test_binary_streams_pass_whole(start: Start, environment: dict[str, str]) -> None:
    """A megabyte with every byte value passes through stdin and stdout unchanged, and stderr is a separate
    stream."""
    content = bytes(range(256)) * 4096
    done = subprocess.run(
        start.command("sh", "-c", "cat; echo apart >&2; tty >&2"),
        input=content,
        capture_output=True,
        env=environment,
        timeout=100,
        check=False,
        cwd="/",
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()
    assert done.stderr == b"apart\nnot a tty\n"


def test_stdin_is_read_by_the_program_only(start: Start, environment: dict[str, str]) -> None:
    """Each round of a shell's `while read` loop starts a program, which must read exactly one line of the
    loop's stdin. With docker there is one round only, because docker reads ahead of the program."""
    ours = shlex.join(start.command("sh", "-c", 'read its; echo "$0 $its"'))
    done = subprocess.run(
        ["sh", "-c", f'printf "a\\n1\\nb\\n2\\nc\\n" | while read line; do {ours} $line; done'],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
        cwd="/",
    )
    rounds = "a 1\n" if start.runtime in COPIED_THROUGH else "a 1\nb 2\nc \n"
    assert (done.stdout, done.stderr) == (rounds, "")


def test_the_callers_files_stay_whose_they_are(
    start: Start, environment: dict[str, str], open_path: Path
) -> None:
    """The owner and group of the streams' files stay unchanged. By itself, crun would change them to the
    container's user and group."""
    owner = SOMEBODY if start.user is None else start.user
    paths = [open_path / name for name in ("in", "out", "err")]
    for path in paths:
        path.touch(mode=0o600)
        os.chown(path, owner, GROUP)
    with paths[0].open("rb") as given, paths[1].open("ab") as out, paths[2].open("ab") as err:
        subprocess.run(
            start.command("sh", "-c", "echo x; echo y >&2"),
            stdin=given,
            stdout=out,
            stderr=err,
            env=environment,
            timeout=100,
            check=True,
            cwd="/",
        )
    assert [path.read_text() for path in paths] == ["", "x\n", "y\n"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(owner, GROUP)}


def test_a_terminal_is_one_inside_and_ctrl_c_reaches_the_program_only(
    start: Start, environment: dict[str, str]
) -> None:
    """The program sees a terminal on exactly those streams on which the caller has one. Ctrl-C sends one
    SIGINT to the program, and ends no process between the program and the caller. The settings of the
    terminal stay unchanged."""
    terminals = "for n in 0 1 2; do test -t $n && echo $n; done"
    script = f"{terminals}; trap 'echo got; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    with Terminal() as terminal:
        before = terminal.settings()
        with terminal.start(start.command("sh", "-c", script), environment) as process:
            assert process.stdout is not None
            found = iter(process.stdout.readline, b"ready\n")
            assert list(found) == ([] if start.runtime in COPIED_THROUGH else [b"0\n", b"2\n"])
            terminal.press(INTERRUPT)
            assert process.stdout.read() == b"got\n"
        assert process.returncode == 3
        assert terminal.settings() == before
