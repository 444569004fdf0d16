"""Every supported runtime starts the same Python program from the mount, as root and as a user."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.debian import python_image
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, RUNTIMES, Job, Runtime, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

PROGRAM = """\
import hashlib, json, os, sqlite3

def writable(path):
    try:
        with open(path, "w") as file:
            return file.write("written") > 0
    except OSError as error:
        return error.strerror

with open(json.__file__, "rb") as module, open("/etc/resolv.conf") as resolv, open("/srv/input") as given:
    print(json.dumps({
        "stdlib": hashlib.sha256(module.read()).hexdigest(),
        "resolv": resolv.read(),
        "given": given.read(),
        "result": writable("/srv/result"),
        "root": writable("/opt/new"),
        "proc": os.path.exists("/proc/self/exe"),
        "sqlite": sqlite3.sqlite_version,
    }))
"""
RESOLV = "nameserver 192.0.2.1\n"
USERS = {"root": None, "user": NOBODY}
Cells = dict[tuple[str, str], str]
"""(runtime, user) -> result of the start."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, str]]:
    """Mounts an image with Python over HTTP, twice; the mount at True has its ids squashed to the user's."""
    work = tmp_path_factory.mktemp("runtimes")
    open_to_all(work)
    store, keys = new_repository(work)
    lazyfs("publish", f"oci:{python_image(work)}", store, "--as", "example/python:v1", "--keys", keys)
    with ExitStack() as stack:
        url = stack.enter_context(serving(store))
        found = {}
        for squashed, ids in ((False, ()), (True, ("--uid", str(NOBODY), "--gid", str(NOBODY)))):
            options = ("--trust", store / "metadata/1.root.json", "--cache", work / f"cache-{squashed}", *ids)
            mount = stack.enter_context(mounted(url, work / f"mount-{squashed}", *options))
            (image,) = mount.glob("*/example/python:v1")
            found[squashed] = str(image.resolve())
        yield found


@pytest.fixture(scope="module")
def matrix(pytestconfig: pytest.Config) -> Iterator[Cells]:
    """Yields the table of results, and prints it when all tests have run."""
    cells: Cells = {}
    yield cells
    lines = [f"{'':28}{''.join(f'{user:16}' for user in USERS)}"]
    names = dict.fromkeys(name for name, _ in cells)
    lines += [
        f"{name:28}{''.join(f'{cells.get((name, user), str()):16}' for user in USERS)}" for name in names
    ]
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + "\n".join(lines))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Makes a directory with a short path: podman refuses paths as long as pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="lazyfs-"))
    yield directory
    subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=True)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("runtime", RUNTIMES, ids=[runtime.name for runtime in RUNTIMES])
def test_a_runtime_starts_python_from_the_mount(
    roots: dict[bool, str],
    matrix: Cells,
    tmp_path: Path,
    scratch: Path,
    runtime: Runtime,
    user: str,
) -> None:
    matrix[runtime.name, user] = "FAILED"
    root = roots[runtime.squashed and user == "user"]
    job = _job(root, tmp_path, scratch, USERS[user])
    done = run(runtime, job)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    answer: Any = json.loads(done.stdout)
    assert answer["stdlib"] == _sha256(f"{root}/usr/lib/python3.11/json/__init__.py")
    assert answer["resolv"] == RESOLV
    assert answer["given"] == "given"
    assert answer["result"] is True
    assert (job.directory / "result").read_text() == "written"
    assert answer["proc"] is True
    assert answer["root"] == (True if runtime.writable else "Read-only file system")
    assert not os.path.exists(f"{root}/opt/new")
    matrix[runtime.name, user] = "ok, writable" if runtime.writable else "ok, read-only"


def _job(root: str, work: Path, scratch: Path, user: int | None) -> Job:
    open_to_all(work.parent)
    directory, resolv = work / "job", work / "resolv.conf"
    directory.mkdir()
    (directory / "input").write_text("given")
    resolv.write_text(RESOLV)
    if user is not None:
        for owned in (work, scratch, directory):
            os.chown(owned, user, user)
    command = ["/usr/bin/python3.11", "-c", PROGRAM]
    return Job(root, command, directory, resolv, scratch, user)


def _sha256(path: str) -> str:
    done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]
