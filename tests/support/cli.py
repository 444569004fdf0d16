"""Runs the lazyfs command as an operator does: each time in a new process."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ports import free_port
from lazyfs.daemon.control_client import mounted_at
from lazyfs.daemon.runtime_directory import socket_paths

LAZYFS = [sys.executable, "-m", "lazyfs"]
READY_SECONDS = 30


def lazyfs(
    *arguments: str | os.PathLike[str], check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end. With `check`, raises AssertionError with the command's output if it
    fails."""
    command = [*LAZYFS, *(os.fspath(argument) for argument in arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=options.pop("timeout", 300), **options
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command[2:])} exited {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@contextmanager
def serving(store: Path, port: int | None = None) -> Iterator[str]:
    """Runs `lazyfs serve` in the background on `port`, or on any free port; yields the repository's URL."""
    port = port or free_port()
    command = [*LAZYFS, "serve", str(store), "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            wait_for_http(f"http://127.0.0.1:{port}/metadata/timestamp.json", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)
            assert process.stderr is not None
            process.stderr.close()


def wait_for_http(url: str, process: subprocess.Popen[bytes]) -> None:
    """Returns once `url` answers. Raises AssertionError if the process ends or the answer does not come in
    time."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(f"the server exited {process.returncode}: {process.stderr.read().decode()}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"{url} did not answer in {READY_SECONDS} s")


@contextmanager
def mounted(source: str | Path, mountpoint: Path, *options: str | os.PathLike[str]) -> Iterator[Path]:
    """Mounts with `lazyfs mount` as a daemon, and unmounts at the end."""
    mountpoint.mkdir(exist_ok=True)
    lazyfs("mount", str(source), mountpoint, *options)
    try:
        yield mountpoint
    finally:
        lazyfs("umount", mountpoint)


def status(mountpoint: Path) -> Any:
    """Returns the daemon's answer to `lazyfs status --json`."""
    return json.loads(lazyfs("status", mountpoint, "--json").stdout)


def successions(mountpoint: Path) -> int:
    """Returns how many times a successor has taken over the mount from its daemon; -1 if no daemon
    answers."""
    done = lazyfs("status", mountpoint, "--json", check=False)
    return int(json.loads(done.stdout)["successions"]) if done.returncode == 0 else -1


def socket_of(mountpoint: Path) -> str:
    """Returns the path of the control socket of the mount's daemon."""
    (found,) = filter(os.path.exists, socket_paths(mounted_at(str(mountpoint))))
    return found


def new_repository(directory: Path, name: str = "test.example.org") -> tuple[Path, Path]:
    """Creates a repository with `repo init`; returns the paths of (store, keys)."""
    store, keys = directory / "store", directory / "keys"
    lazyfs("repo", "init", store, "--name", name, "--keys", keys)
    return store, keys
