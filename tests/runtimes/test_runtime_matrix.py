"""Every runtime starts the same four programs from a mount, as root and as a user, with the same results."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.debian import python_image
from tests.support.docker import docker_daemon
from tests.support.measured import Measured
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, NOT_HERE, ROOTS_ONLY, RUNTIMES, run
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

PYTHON = """\
import ctypes, decimal, hashlib, json, os, sqlite3, sys
with open(json.__file__, "rb") as module:
    print(hashlib.sha256(module.read()).hexdigest())
print(sqlite3.connect(":memory:").execute("select 6 * 7").fetchone(), os.getcwd(), sys.argv[1:])
print(sorted(set(os.environ) & {"PATH", "HOME", "GREETING", "SECRET"}), os.environ["GREETING"])
try:
    open("/opt/new", "w")
except OSError as error:
    print(error.strerror)
"""
GREETING = "two words, $HOME and 'quotes'"
USERS = {"root": None, "user": NOBODY}


class Program(NamedTuple):
    """One of the four programs, and its expected output and exit code."""

    name: str
    command: tuple[str, ...]
    binds: tuple[str, ...]
    """SRC:DST:MODE, with SRC below the job's directory."""
    output: str
    code: int


def programs(root: str) -> list[Program]:
    with open(f"{root}/usr/lib/python3.11/json/__init__.py", "rb") as module:
        digest = subprocess.run(
            ["sha256sum"], stdin=module, check=True, capture_output=True, text=True
        ).stdout
    return [
        Program(
            "python with imports",
            ("/usr/bin/python3.11", "-c", PYTHON, "--option", "two words"),
            (),
            f"{digest.split()[0]}\n(42,) /srv ['--option', 'two words']\n"
            f"['GREETING', 'HOME', 'PATH'] {GREETING}\nRead-only file system\n",
            0,
        ),
        Program(
            "shell pipeline into a bind",
            ("sh", "-c", "cat | sort -rn | head -2 | tee result; exit 5"),
            (),
            "10\n9\n",
            5,
        ),
        Program(
            "bind target absent in the image",
            (
                "sh",
                "-c",
                "cd /afs/example.org/software && cat tool && ls /afs && ! touch new 2>/dev/null",
            ),
            ("software:/afs/example.org/software:ro",),
            "a tool\nexample.org\n",
            0,
        ),
        Program(
            "config file over an existing file",
            ("sh", "-c", "cat /etc/debian_version /etc/oracle/tnsnames.ora; kill -TERM $$"),
            ("wallet:/etc/oracle/tnsnames.ora:ro", "version:/etc/debian_version:ro"),
            "bound over\na wallet\n",
            143,
        ),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Mounts an image with Python over HTTP; yields the image's root."""
    work = tmp_path_factory.mktemp("runtimes")
    open_to_all(work)
    store, keys = new_repository(work)
    lazyfs("publish", f"oci:{python_image(work)}", store, "--as", "example/python:v1", "--keys", keys)
    with ExitStack() as stack:
        url = stack.enter_context(serving(store))
        options = ("--trust", store / "metadata/1.root.json", "--cache", work / "cache")
        mount = stack.enter_context(mounted(url, work / "mount", *options))
        (image,) = mount.glob("*/example/python:v1")
        stack.enter_context(docker_daemon())
        yield str(image)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_starts_four_programs_from_the_mount(
    root: str, measured: Measured, tmp_path: Path, runtime: str, user: str
) -> None:
    directory = _job(tmp_path, USERS[user])
    if user == "user" and runtime in ROOTS_ONLY:
        done = run([root, "--runtime", runtime, "--", "true"], user=NOBODY)
        assert (done.returncode, ROOTS_ONLY[runtime] in done.stderr) == (2, True)
        measured("root only")
        return
    for program in programs(root):
        binds = [word for bind in program.binds for word in ("-B", f"{directory}/{bind}")]
        options = [
            "--runtime",
            runtime,
            "--work",
            f"{directory}/work:/srv",
            "--env",
            f"GREETING={GREETING}",
            "--json",
        ]
        done = run(
            [root, *options, *binds, "--", *program.command],
            user=USERS[user],
            environment={"SECRET": "of the caller"},
            given="9\n10\n2\n",
        )
        assert done.stdout == program.output, (program.name, done.stderr)
        lines = done.stderr.splitlines()
        said = json.loads(lines[-1])
        assert (said["runtime"], said["started"]) == (runtime, True)
        assert said["failed"] == ("program" if program.code else None)
        assert done.returncode == said["exit_code"]
        assert done.returncode == program.code
        assert lines[:-1] == []
    assert (directory / "work/result").read_text() == "10\n9\n"
    assert (directory / "work/result").stat().st_uid == (USERS[user] or 0)
    assert not os.path.exists(f"{root}/afs")
    measured("ok")


def _job(work: Path, user: int | None) -> Path:
    """Makes the job's directory and the files that are bound."""
    open_to_all(work)
    (work / "work").mkdir()
    (work / "software").mkdir()
    (work / "software/tool").write_text("a tool\n")
    (work / "wallet").write_text("a wallet\n")
    (work / "version").write_text("bound over\n")
    if user is not None:
        os.chown(work / "work", user, user)
    return work


def test_nothing_is_left_of_any_start(root: str, measured: Measured) -> None:
    """Asserts that the starts above have left no directory, no control group and no mount."""
    del root
    until(lambda: _left() == [], SECONDS_OF_OTHERS)
    measured(f"{' and '.join(NOT_HERE)}: not run here")


SECONDS_OF_OTHERS = 60
"""Seconds after which starts of tests beside these ones have ended."""


def _left() -> list[str]:
    left = [name for name in os.listdir("/tmp") if name.startswith(("lazyfs-run-", "lazyfs-trial-"))]
    left += [path for path, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(path) == "lazyfs"]
    lines = Path("/proc/mounts").read_text(errors="surrogateescape").splitlines()
    return [*left, *(line for line in lines if "lazyfs-run-" in line)]
