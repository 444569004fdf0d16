"""The tree that is measured: a copy of files on this machine, and one large file."""

import os
import random
import shutil
import subprocess
from pathlib import Path

PARTS = (
    "/usr/include",
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/share/perl",
    "/usr/share/perl5",
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
)
"""Directories that are copied, in this order, until there are enough files."""
FILES = 13_000
BYTES = 200 << 20
LARGE = "large"
LARGE_SIZE = 256 << 20
SMALL_SIZE = 64 << 10
"""The largest size, in bytes, of a file that counts as small."""


def copy(target: Path, files: int = FILES, size: int = BYTES) -> None:
    """Copies directories of the machine below `target` until the tree has `files` files and `size` bytes, and
    adds a large file of random bytes. Raises RuntimeError if the machine has too few files."""
    have_files = have_bytes = 0
    for part in PARTS:
        if have_files >= files and have_bytes >= size:
            break
        if os.path.isdir(part):
            shutil.copytree(part, target / part.strip("/"), symlinks=True)
            have_files, have_bytes = measure(target)
    if have_files < files:
        raise RuntimeError(f"{', '.join(PARTS)} hold {have_files} files only, and {files} are needed")
    source = random.Random(7)
    with open(target / LARGE, "wb") as large:
        large.writelines(source.randbytes(1 << 20) for _ in range(LARGE_SIZE >> 20))
    subprocess.run(["sync"], check=True)


def measure(root: Path) -> tuple[int, int]:
    """Returns the number of regular files below a directory, and their total size in bytes."""
    files = size = 0
    for directory, _, names in os.walk(root):
        for name in names:
            found = os.lstat(os.path.join(directory, name))
            if not os.path.islink(os.path.join(directory, name)):
                files += 1
                size += found.st_size
    return files, size


def paths(root: Path) -> tuple[list[str], list[str]]:
    """Returns two lists of paths relative to the root: all regular files, and the small ones. Both are
    shuffled, in the same order each time."""
    every, small = [], []
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                continue
            relative = os.path.relpath(path, root)
            every.append(relative)
            if 0 < os.path.getsize(path) <= SMALL_SIZE:
                small.append(relative)
    for found in (every, small):
        found.sort()
        random.Random(1).shuffle(found)
    return every, small
