"""Starts that fail: one line on stderr for each, and the result says whose failure it was. A mount that goes
in mid-run is tried in test_mount_gone.py."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.docker import docker_daemon
from tests.support.runtimes import NOBODY, run

pytestmark = pytest.mark.root


@pytest.fixture
def image(open_path: Path) -> Path:
    """Makes an image with a program for this machine and a program for another architecture."""
    root = busybox_root(open_path / "image")
    elf = bytearray(Path("/bin/busybox").read_bytes()[:64])
    elf[18:20] = (22).to_bytes(2, "little")  # e_machine of s390x
    (root / "bin/foreign").write_bytes(elf)
    (root / "bin/foreign").chmod(0o755)
    return root


@pytest.fixture
def docker() -> Iterator[str]:
    with docker_daemon() as socket:
        yield socket


def test_each_failure_is_one_line_and_somebodys(image: Path, open_path: Path, docker: str) -> None:
    """Each start runs as a user who can read neither the token nor docker's socket. The result file says
    whether the image, the runtime or the request has failed."""
    (open_path / "token").write_text("secret\n")
    (open_path / "token").chmod(0o600)
    for name in ("results", "cache"):
        (open_path / name).mkdir()
        os.chown(open_path / name, NOBODY, NOBODY)
    here = str(image)
    token = ("--username", "me", "--password-file", str(open_path / "token"))
    failures = {
        "missing image": ((f"{open_path}/none", "--", "sh"), "image", "none"),
        "missing name": (("none/app:1", "--", "sh"), "image", "none/app:1"),
        "missing runtime": (
            (here, "--runtime", "udocker", "--", "busybox"),
            "runtime",
            "udocker is not on PATH",
        ),
        "wrong architecture": ((here, "--", "foreign"), "image", "s390x"),
        "unreadable token": (
            ("docker://127.0.0.1:9/app", *token, "--", "sh"),
            "request",
            "token: Permission denied",
        ),
        "docker": (
            (here, "--runtime", "docker", "--", "busybox"),
            "runtime",
            f"user {NOBODY} may not use {docker}",
        ),
    }
    for name, (words, failed, said) in failures.items():
        result = open_path / "results" / name.replace(" ", "-")
        done = run(
            ["--result", str(result), *words],
            user=NOBODY,
            environment={"XDG_CACHE_HOME": f"{open_path}/cache"},
        )
        assert done.returncode != 0, name
        (line,) = done.stderr.splitlines()
        assert line.startswith("lazyfs: "), name
        assert said in line, name
        found = json.loads(result.read_text())
        assert (found["failed"], found["started"], found["exit_code"]) == (failed, False, done.returncode), (
            name
        )
        assert "secret" not in done.stderr + result.read_text()
