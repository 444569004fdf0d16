"""Descriptions of directory trees, with which tests compare two trees in everything that a program can
see."""

import hashlib
import os
import stat
import subprocess
from pathlib import Path

FORMAT = r"%P\t%y\t%m\t%U\t%G\t%n\t%s\t%l\t%T@\0"


def listing(root: Path) -> dict[bytes, bytes]:
    """Returns path -> the line that find prints for it. The sizes of directories are omitted, because each
    filesystem chooses them itself."""
    printed = subprocess.run(
        ["find", str(root), "-mindepth", "1", "-printf", FORMAT], capture_output=True, check=True
    )
    found = {}
    for line in printed.stdout.split(b"\0")[:-1]:
        path, kind, mode, uid, gid, links, size, target, mtime = line.split(b"\t")
        shown = [kind, mode, uid, gid, links, b"-" if kind == b"d" else size, target, mtime]
        found[path] = b" ".join(shown)
    return found


def hardlink_groups(root: Path) -> set[frozenset[bytes]]:
    """Returns the sets of paths that share an inode, each with at least two paths."""
    groups: dict[int, set[bytes]] = {}
    for path in _walk(root):
        status = os.lstat(path)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            groups.setdefault(status.st_ino, set()).add(os.path.relpath(path, os.fsencode(root)))
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def xattrs(root: Path) -> dict[bytes, dict[str, bytes]]:
    """Returns path -> extended attributes, for the paths that have any."""
    found = {}
    for path in _walk(root):
        names = os.listxattr(path, follow_symlinks=False)
        if names:
            values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            found[os.path.relpath(path, os.fsencode(root))] = values
    return found


def digests(root: Path) -> dict[bytes, str]:
    """Returns path -> SHA-256 of every regular file."""
    found = {}
    for path in _walk(root):
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as file:
                found[os.path.relpath(path, os.fsencode(root))] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return found


def _walk(root: Path) -> list[bytes]:
    paths: list[bytes] = []
    for directory, directories, files in os.walk(os.fsencode(root)):
        paths.extend(os.path.join(directory, name) for name in directories + files)
    return paths
