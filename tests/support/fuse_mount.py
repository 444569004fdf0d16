"""Mounts a tree made by a test, with either session; see tests.support.fuse_server."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lazyfs.core.catalog.inode import Nested
from lazyfs.system import mountpoint as points
from tests.support.images import Objects
from tests.support.kernel_caches import drop_kernel_caches


class Mounted:
    """A mounted tree, with the commands of the server process behind it."""

    def __init__(
        self, path: Path, process: "subprocess.Popen[str]", objects: Objects, directory: Path
    ) -> None:
        self.path = path
        self.process = process
        self.objects = objects
        self._directory = directory

    def ask(self, what: str, **fields: Any) -> Any:
        """Sends a command to the server and returns its answer. For the commands, see
        tests/support/fuse_server.py."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what} | fields) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def upcalls(self) -> dict[str, int]:
        """Returns the number of the kernel's requests so far, by type."""
        found: dict[str, int] = self.ask("counters")["upcalls"]
        return found

    def given_back(self, what: str, at_most: int, seconds: float = 20) -> dict[str, Any]:
        """Drops the kernel's caches again and again, until the server's count `what` is at most `at_most` or
        `seconds` have passed. Returns all of the server's counts by name.

        One drop is not enough: the kernel keeps recently used inodes until the next drop, stops early if it
        has freed little, and sends FORGET to the server only after the drop has returned.
        """
        end = time.monotonic() + seconds
        while True:
            drop_kernel_caches(2)
            table: dict[str, Any] = self.ask("table")
            if table[what] <= at_most or time.monotonic() > end:
                return table
            time.sleep(0.05)

    def show(self, root: Nested, revision: int) -> None:
        """Shows another revision: the tree at `root`."""
        store(self.objects, self._directory)
        self.ask("switch", root=root.ref.digest.hex(), size=root.ref.size, revision=revision)


def store(objects: Objects, directory: Path) -> None:
    """Writes objects into the directory from which the server reads them."""
    directory.mkdir(exist_ok=True)
    for digest, plain in objects.items():
        path = directory / digest.hex()
        if not path.exists():
            path.write_bytes(plain)


@contextmanager
def mounted(
    kind: str, objects: Objects, root: Nested, directory: Path, *, permissions: str = "image"
) -> Iterator[Mounted]:
    """Mounts the tree on `directory/mnt`; unmounts it at the end, also after a failed test."""
    mnt = directory / "mnt"
    mnt.mkdir()
    store(objects, directory / "objects")
    command = [sys.executable, "-m", "tests.support.fuse_server", kind, str(mnt), str(directory / "objects")]
    command += [root.ref.digest.hex(), str(root.ref.size), permissions]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield Mounted(mnt, process, objects, directory / "objects")
        finally:
            if points.find(str(mnt)):
                points.unmount(str(mnt))
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0
