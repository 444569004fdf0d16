"""`lazyfs run` in a container of the batch system: it works where the kernel allows it, and else says why
not."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, ROOTS_ONLY, RUNTIMES, lazyfs_of, search_path

pytestmark = pytest.mark.root

OUTER = ["bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc"]
COVERED = ["--ro-bind", "/proc/version", "/proc/cpuinfo"]
"""podman and docker cover parts of a container's /proc in this way. The kernel then allows no new /proc
inside."""


def nested(image: Path, outer: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    identity, start = lazyfs_of(NOBODY)[:4], lazyfs_of(NOBODY)[4:]
    # no result of a probe can be remembered there, so each runtime is tried
    environment = {**os.environ, "PATH": search_path(), "LAZYFS_RUNTIME_DIR": "/proc/none"}
    return subprocess.run(
        [*identity, *outer, *start, "run", str(image), *arguments, "--", "/bin/busybox", "id", "-u"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd="/",
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = busybox_root(tmp_path / "image")
    open_to_all(root)
    return root


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in ROOTS_ONLY])
def test_a_start_inside_a_container(image: Path, runtime: str) -> None:
    done = nested(image, OUTER, "--runtime", runtime)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout in ("0\n", f"{NOBODY}\n")


def test_where_no_new_proc_is_allowed_it_is_said(image: Path) -> None:
    done = nested(image, [*OUTER, *COVERED])
    assert (done.returncode, done.stdout) == (2, "")
    assert "no usable runtime on this machine: bubblewrap: a trial failed" in done.stderr
    assert (
        "crun was not started: a new /proc is not allowed here: the container around this one" in done.stderr
    )
