"""Follows paths through the mounts of a node; links inside a mount may not lead out of it."""

import errno
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.system.rooted_paths import MAX_LINKS


class PathInMount(NamedTuple):
    """The place to which a path leads when its links are followed."""

    real: str
    """The path of this place: absolute and free of links."""
    mount: str | None
    """The given mount point in which `real` lies; None if `real` lies in none of them."""


def resolve_among_mounts(path: str, mounts: Iterable[str]) -> PathInMount:
    """Follows a path that exists: links of the host as usual, links in one of `mounts` only inside that
    mount.

    Published files come from strangers: a link in them to `/`, or upwards out of the mount, could lead the
    caller to files of the host. Raises UsageError for such a link, and OSError for a path that does not
    exist.
    """
    tops = {mount.rstrip("/") or "/" for mount in mounts}
    found, links = "/", 0
    written = reversed(_names(os.path.abspath(path)))
    pending: list[tuple[str, str | None]] = [(part, None) for part in written]
    while pending:
        part, bound_to = pending.pop()
        candidate = os.path.dirname(found) if part == ".." else os.path.join(found, part)
        mode = os.lstat(candidate).st_mode
        mount = _innermost(candidate, tops)
        if bound_to is not None and mount != bound_to:
            raise UsageError(f"{path}: a link in {bound_to} leads out of it, to {candidate}; not followed")
        if not stat.S_ISLNK(mode):
            found = candidate
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        inner = _innermost(found, tops)
        target = os.readlink(candidate)
        if target.startswith("/"):
            target, found = _below(target, inner, path)
        pending.extend((part, inner) for part in reversed(_names(target)))
    return PathInMount(found, _innermost(found, tops))


def _below(target: str, mount: str | None, path: str) -> tuple[str, str]:
    """Returns an absolute link as (the path to follow, the directory it starts from). `path`: the path on
    which the link was met, for the text of the UsageError that is raised if a link in a mount does not name a
    path of that mount."""
    if mount is None or mount == "/":
        return target, "/"
    plain = "/" + "/".join(_names(target)) + "/"
    if not plain.startswith(mount + "/"):
        raise UsageError(f"{path}: a link in {mount} leads out of it, to {target}; not followed")
    return plain.removeprefix(mount), mount


def _innermost(path: str, tops: set[str]) -> str | None:
    while path not in tops:
        if path == "/":
            return None
        path = os.path.dirname(path)
    return path


def _names(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
