"""Paths that only root can lead elsewhere: what root may make or give away on behalf of somebody else."""

import errno
import os
import stat

from lazyfs.core.errors import UsageError
from lazyfs.system.rooted_paths import MAX_LINKS


def path_of_root(path: str) -> str:
    """Returns the path free of links, as far as it exists.

    Raises UsageError if anybody but root can change where it leads: a directory on the way, or a link, is
    somebody else's. Raises OSError.
    """
    found, links = "/", 0
    pending = _names(os.path.abspath(path))
    while pending:
        _check(path, found)
        part = pending.pop()
        if part == "..":
            found = os.path.dirname(found)
            continue
        candidate = os.path.join(found, part)
        try:
            status = os.lstat(candidate)
        except FileNotFoundError:
            return os.path.join(candidate, *reversed(pending))
        if not stat.S_ISLNK(status.st_mode):
            found = candidate
            continue
        if status.st_uid != 0:
            raise UsageError(f"{path}: goes through the link {candidate} of user {status.st_uid}")
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(candidate)
        found = "/" if target.startswith("/") else found
        pending += _names(target)
    return found


def _names(path: str) -> list[str]:
    """The last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _check(path: str, directory: str) -> None:
    status = os.lstat(directory)
    if status.st_uid != 0:
        raise UsageError(f"{path}: {directory} belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise UsageError(f"{path}: others than root can write to {directory}")
