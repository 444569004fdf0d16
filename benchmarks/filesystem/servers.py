"""The servers of the tree: a plain directory, squashfuse_ll, and lazyfs with each of its sessions."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

LAZYFS = (sys.executable, "-m", "lazyfs")
PINNED = "0"
"""The CPU on which client and server both run."""


class Served(NamedTuple):
    """The path at which the tree can be read, and the process id of its server."""

    root: Path
    pid: int
    """0 if only the kernel serves the tree."""


def pin(command: list[str], pinned: bool) -> list[str]:
    """Returns a command that runs `command` on one CPU, with priority over all other processes there. Returns
    it unchanged if not `pinned`."""
    return ["chrt", "--fifo", "1", "taskset", "-c", PINNED, *command] if pinned else command


class Prepared:
    """The tree in the form that each server needs, all in one directory."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self._directory = directory
        self._tree = tree
        self._squashfs = directory / "tree.squashfs"

    def prepare(self) -> dict[str, float]:
        """Makes a squashfs and a repository; returns how many seconds each took."""
        took = {}
        start = time.perf_counter()
        _run(["mksquashfs", os.fspath(self._tree), os.fspath(self._squashfs), "-quiet"])
        took["mksquashfs"] = time.perf_counter() - start
        store, keys = self._directory / "store", self._directory / "keys"
        _run([*LAZYFS, "repo", "init", os.fspath(store), "--name", "bench", "--keys", os.fspath(keys)])
        start = time.perf_counter()
        publish = [*LAZYFS, "publish", f"dir:{self._tree}", os.fspath(store), "--as", "software/tree"]
        _run([*publish, "--keys", os.fspath(keys)])
        took["lazyfs publish"] = time.perf_counter() - start
        return took

    @contextmanager
    def serve(self, kind: str, pinned: bool) -> Iterator[Served]:
        """Serves the tree by `kind`, which is ext4, squashfuse_ll, direct or pyfuse3."""
        mnt = self._directory / f"mnt-{kind}"
        if kind == "ext4":
            yield Served(self._tree, 0)
            return
        mnt.mkdir(exist_ok=True)
        try:
            if kind == "squashfuse_ll":
                yield Served(mnt, self._squashfuse(mnt, pinned))
            else:
                yield Served(mnt / "software/tree", self._lazyfs(kind, mnt, pinned))
        finally:
            _run(["umount", "-l", os.fspath(mnt)])

    def _squashfuse(self, mnt: Path, pinned: bool) -> int:
        _run(pin(["squashfuse_ll", os.fspath(self._squashfs), os.fspath(mnt)], pinned))
        found = subprocess.run(
            ["pgrep", "-n", "-f", f"squashfuse_ll .*{mnt}"], check=True, capture_output=True, text=True
        )
        return int(found.stdout)

    def _lazyfs(self, kind: str, mnt: Path, pinned: bool) -> int:
        store = self._directory / "store"
        command = [*LAZYFS, "mount", os.fspath(store), os.fspath(mnt), "--fuse", kind]
        command += ["--trust", os.fspath(store / "metadata/1.root.json")]
        command += ["--cache", os.fspath(self._directory / "cache"), "--cache-limit", "4G"]
        _run(pin([*command, "--log", os.fspath(self._directory / f"{kind}.log")], pinned))
        status = subprocess.run(
            [*LAZYFS, "status", os.fspath(mnt), "--json"], check=True, capture_output=True
        )
        found = json.loads(status.stdout)
        pid = found["pid"] if "pid" in found else found[0]["pid"]
        # Every byte is in the local cache from here on. Another benchmark measures the cost of the network.
        _run(["sh", "-c", f"tar -cf - -C '{mnt}' . | cat > /dev/null"])
        assert isinstance(pid, int)
        return pid


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")


def missing_tools() -> list[str]:
    """Returns the names of programs that this benchmark needs and that are not installed."""
    needed = ("cc", "squashfuse_ll", "mksquashfs", "taskset", "chrt", "find", "tar", "pgrep", "umount")
    return [tool for tool in needed if not shutil.which(tool)]
