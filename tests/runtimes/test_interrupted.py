"""SIGINT ends `lazyfs run` and `lazyfs exec` at any moment before the program's start, like SIGTERM."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, new_repository

INTERRUPTED = """
import os, runpy, signal, sys
def profile(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "cb" and after in sys.modules:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)
after = sys.argv.pop(1)
sys.setprofile(profile)
runpy.run_module("lazyfs", run_name="__main__", alter_sys=True)
"""
"""Runs lazyfs, and sends it SIGINT once a certain module is imported, in the next callback of importlib's
locks. An exception that is raised in a callback ends no program."""


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Returns command -> command line of lazyfs that starts a program which ends at once."""
    work = tmp_path_factory.mktemp("interrupted")
    (work / "image/bin").mkdir(parents=True)
    (work / "image/bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (work / "image/bin/busybox").chmod(0o755)
    store, keys = new_repository(work)
    lazyfs("publish", f"dir:{work}/image", store, "--as", "image", "--keys", keys)
    cache, trust = work / "cache", store / "metadata/1.root.json"
    mount = ["--mount", f"{store}=/cvmfs/interrupted.example", "--cache", str(cache), "--trust", str(trust)]
    return {
        "run": ["run", f"{work}/image", "--", "/bin/busybox", "echo", "started"],
        "exec": ["exec", *mount, "--", "echo", "started"],
    }


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("run", "lazyfs.cli.quick"),
        ("run", "lazyfs.runtimes.choose"),
        ("exec", "lazyfs.cli.main"),
        ("exec", "lazyfs.runtimes.beside_mounts"),
    ],
)
def test_a_signal_in_a_callback_is_not_lost(starts: dict[str, list[str]], command: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, *starts[command]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
