"""A mounted repository as a walk finds it: its links and folders, and the files of its images."""

import os
from pathlib import Path

PARTS = (".flat", ".layers", ".metadata")


def links(mount: Path) -> dict[str, str]:
    """Returns path -> target for every link, and path -> "" for every folder, except below the folders that
    hold the parts of images. Raises AssertionError if there is anything else."""
    found: dict[str, str] = {}
    for folder, folders, others in os.walk(mount):
        here = os.path.relpath(folder, mount)
        if here == ".":
            folders[:] = [name for name in folders if name not in PARTS]
        for name in folders + others:
            path = os.path.normpath(os.path.join(here, name))
            full = mount / path
            if full.is_symlink():
                found[path] = os.path.relpath(full.resolve(strict=True), mount)
            else:
                assert full.is_dir(), path
                found[path] = ""
    return found


def shelved(mount: Path, part: str) -> set[str]:
    """Returns the names in all subdirectories of `part`, which is `.flat` or `.layers`."""
    return {name for shelf in os.scandir(mount / part) for name in os.listdir(shelf)}


def files(tree: Path) -> dict[str, bytes]:
    """Returns path -> content of the regular files of a tree."""
    return {
        os.path.relpath(path, tree): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
