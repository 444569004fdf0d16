"""Finds the repository, and the path in it, that a path on this node leads to."""

import os
from typing import NamedTuple

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.system import mountpoint as points
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.mount_table import Mount
from lazyfs.system.paths_in_mounts import resolve_among_mounts

SECONDS = 30.0
"""Timeout of resolving the path, in seconds: catalogs may have to be fetched."""


class NoSuchPath(UsageError):
    """The path does not exist."""


class MountedPath(NamedTuple):
    """A path in a mounted repository."""

    url: str
    """The repository's URL, with its account if it has one: not to be shown."""
    root: ObjectRef
    """The root catalog of the revision that the mount shows."""
    inside: bytes
    """The path below the repository's root, links followed."""
    label: bytes
    """The path as written, below the mount point; only its end if it is longer than 120 bytes."""
    cache: str
    """The cache directory of the mount."""
    namespace: bytes
    """The namespace of the repository's objects in the cache; empty if every user may read them."""


def locate(path: str) -> MountedPath:
    """Returns the repository and the path in it for a path in a mount.

    Raises NoSuchPath if the path does not exist; UsageError if it is in no mount, or if the mount or its
    daemon does not answer.
    """
    tops = [mount.mountpoint for mount in points.mounts() if mount.fstype == points.FSTYPE]
    answer = ask_one(lambda: _resolve(path, tops), SECONDS)
    if not answer.came:
        raise UsageError(f"{path}: its filesystem does not answer in {SECONDS:g} s")
    if answer.value is None:
        raise NoSuchPath(f"{path}: there is no such file or directory")
    real, top, fault = answer.value
    if fault:
        raise UsageError(fault)
    if top is None:
        raise UsageError(f"{path} lies in no mount of lazyfs; lazyfs status lists those there are")
    mount = control_client.mounted_at(top)
    found = control_client.status(mount)
    below = os.path.relpath(real, top)
    name, _, inside = below.partition("/")
    if name not in found.repositories:  # the repository is the mount's root, not a folder of it
        (name,) = found.repositories
        inside = "" if below == "." else below
    repository = found.repositories[name]
    return MountedPath(
        url=_url(mount, name, repository.url),
        root=ObjectRef(Digest(bytes.fromhex(repository.root)), repository.root_size),
        inside=os.fsencode(inside),
        label=os.fsencode(os.path.relpath(os.path.abspath(path), top))[-120:],
        cache=os.path.dirname(found.cache.directory),
        namespace=repository.namespace.encode(),
    )


def _url(mount: Mount, name: str, shown: str) -> str:
    """Returns the URL of a repository with its account. If the daemon does not show the account to this user,
    returns `shown`, which is the URL without the account."""
    try:
        return control_client.urls(mount)[name]
    except UsageError:
        return shown


def _resolve(path: str, tops: list[str]) -> tuple[str, str | None, str] | None:
    """Returns (path without links, the mount point that it is below, error message); None if the path does
    not exist. `tops`: the mount points of lazyfs. The mount point is None for a path below none of them. Runs
    in a child process."""
    try:
        real, top = resolve_among_mounts(path, tops)
    except OSError:
        return None
    except UsageError as error:
        return "", None, str(error)
    return real, top, ""
