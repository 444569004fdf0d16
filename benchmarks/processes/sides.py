"""The sides: an unpacked tree, lazyfs with each of its sessions, squashfuse_ll, and the kernel's squashfs."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.startup.group import Group

TREE: Final = "unpacked tree"
DIRECT: Final = "lazyfs, direct session"
PYFUSE3: Final = "lazyfs, pyfuse3 session"
SQUASHFUSE: Final = "squashfuse_ll, zstd"
SQUASHFUSE_GZIP: Final = "squashfuse_ll, gzip"
KERNEL: Final = "kernel squashfs, zstd"
SIDES: Final = (TREE, DIRECT, PYFUSE3, SQUASHFUSE, SQUASHFUSE_GZIP, KERNEL)
COMPRESSIONS: Final = {"zstd": ("-Xcompression-level", "3"), "gzip": ()}
"""Compression of a squashfs -> options of mksquashfs. zstd at level 3 is what benchmarks.startup gives
apptainer; gzip is what apptainer uses by default."""
LAZYFS: Final = (sys.executable, "-P", "-m", "lazyfs")
_TOOLS: Final = ("mksquashfs", "squashfuse_ll", "umoci", "mount", "umount")
_QUIET_SECONDS: Final = 0.3
_QUIET_SHARE: Final = 0.02
"""A server counts as idle when it has used less than this share of a processor for _QUIET_SECONDS."""
_PATIENCE: Final = 20.0


class Served(NamedTuple):
    """A tree that is being served."""

    root: Path
    """The directory that the programs get as their root."""
    mountpoint: Path | None
    """The FUSE mount; None if the kernel alone serves the tree."""
    daemon: int
    """The process of lazyfs; 0 on the other sides."""


def missing_tools() -> list[str]:
    """Returns the names of needed programs that are not installed."""
    return [tool for tool in _TOOLS if not shutil.which(tool)]


class Prepared:
    """One unpacked tree, and what each side serves it from."""

    def __init__(self, tree: Path, kept: Path, directory: Path) -> None:
        """`kept`: the directory where the squashfs files are kept from one run to the next. `directory`: the
        directory of everything else."""
        self._tree = str(tree)
        self._kept = kept
        self._directory = str(directory)
        self._store = f"{directory}/store"

    def prepare(self) -> None:
        """Makes the squashfs files, unless they are kept, and a repository."""
        for compression, options in COMPRESSIONS.items():
            made = Path(self._squashfs(compression))
            if not made.is_file():
                half = made.with_suffix(".half")
                make = ["mksquashfs", self._tree, str(half), "-quiet", "-no-progress", "-noappend"]
                _run([*make, "-comp", compression, *options])
                half.rename(made)
        keys = f"{self._directory}/keys"
        _run([*LAZYFS, "repo", "init", self._store, "--name", "bench", "--keys", keys])
        _run([*LAZYFS, "publish", f"dir:{self._tree}", self._store, "--as", "image", "--keys", keys])

    def _squashfs(self, compression: str) -> str:
        return str(self._kept / f"tree-{compression}.squashfs")

    @contextmanager
    def serve(self, side: str, group: Group) -> Iterator[Served]:
        """Serves the tree. A server runs in `group`, and is idle when the block begins."""
        if side == TREE:
            yield Served(Path(self._tree), None, 0)
            return
        mountpoint = Path(self._directory) / "mnt"
        mountpoint.mkdir(exist_ok=True)
        server, _, how = side.partition(", ")
        _run(group.entering(self._mount(server, how, str(mountpoint))))
        try:
            _wait_until_idle(group)
            if server == "lazyfs":
                yield Served(mountpoint / "image", mountpoint, _daemon(mountpoint))
            else:
                yield Served(mountpoint, mountpoint if server == "squashfuse_ll" else None, 0)
        finally:
            _run([*(LAZYFS if server == "lazyfs" else ()), "umount", str(mountpoint)])

    def _mount(self, server: str, how: str, mountpoint: str) -> list[str]:
        """Returns the command that mounts a side."""
        if server == "squashfuse_ll":
            return [server, self._squashfs(how), mountpoint]
        if server != "lazyfs":
            return ["mount", "-t", "squashfs", "-o", "loop,ro", self._squashfs(how), mountpoint]
        command = [*LAZYFS, "mount", self._store, mountpoint, "--fuse", how.removesuffix(" session")]
        command += ["--trust", f"{self._store}/metadata/1.root.json"]
        command += ["--cache", f"{self._directory}/cache", "--cache-limit", "8G"]
        return [*command, "--log", f"{self._directory}/log"]


def _daemon(mountpoint: Path) -> int:
    """Returns the process id of the daemon of a mount."""
    found = json.loads(_run([*LAZYFS, "status", str(mountpoint), "--json"]))["pid"]
    assert isinstance(found, int)
    return found


def _wait_until_idle(group: Group) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        before = group.cpu_seconds()
        time.sleep(_QUIET_SECONDS)
        if group.cpu_seconds() - before < _QUIET_SECONDS * _QUIET_SHARE:
            return
    raise RuntimeError(f"a server is still busy {_PATIENCE:g} s after its mount")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout
