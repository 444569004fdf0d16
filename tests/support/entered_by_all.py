"""Lets every user run this checkout's program, wherever the checkout and its interpreter lie: for a daemon
that is no longer root. Call it in a private mount table."""

import os
import subprocess
import sys
from pathlib import Path

import lazyfs


def open_program_to_all() -> None:
    """Covers each directory above the program that only its owner can enter: a directory that all can enter
    has the part of it that leads to the program."""
    for path in (Path(sys.executable), Path(sys.executable).resolve(), Path(lazyfs.__path__[0])):
        for below, directory in reversed([*zip((path, *path.parents), path.parents, strict=False)]):
            if not directory.stat().st_mode & 0o001:
                _cover(directory, below.name)


def _cover(directory: Path, name: str) -> None:
    below = os.open(directory / name, os.O_PATH)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory], check=True)
        (directory / name).mkdir()
        source = f"/proc/{os.getpid()}/fd/{below}"
        subprocess.run(["mount", "--no-canonicalize", "--bind", source, directory / name], check=True)
    finally:
        os.close(below)
