"""Makes mount points anywhere in this process's own view of the machine; no file is made on the machine.

An empty filesystem in memory covers the directory that lacks a name. All names of the directory are shown in
it again, and the new name is made beside them. For a name in `/`, the filesystem becomes the root: so a user
can make /cvmfs.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.system import namespaces

_MOST = 4096
"""The largest number of names in a directory that can be covered: each name takes a mount."""
_FLAGS = namespaces.NOSUID | namespaces.NODEV


class MissingPoint(NamedTuple):
    """A mount point that does not exist."""

    above: str
    """The deepest existing directory above the mount point, links followed."""
    names: tuple[str, ...]
    """The missing names of the path, below that directory."""


def missing_points(targets: Iterable[str]) -> list[MissingPoint]:
    """Returns those of the absolute paths `targets` that do not exist and have to be made.

    Raises UsageError for a path below a file, and for a path in a directory that the caller can write to:
    what the program wrote into that directory would be gone at its end.
    """
    found = []
    for target in targets:
        above, names = target, list[str]()
        while not os.path.lexists(above):
            above, _, name = above.rpartition("/")
            above = above or "/"
            names.insert(0, name)
        above = os.path.realpath(above)
        if not os.path.isdir(above):
            raise UsageError(f"mount point {target}: {above} is no directory")
        if names and above != "/" and os.access(above, os.W_OK):
            raise UsageError(f"mount point {target} does not exist; make it first: mkdir -p {target}")
        if names:
            found.append(MissingPoint(above, tuple(names)))
    return found


def make(points: Iterable[MissingPoint]) -> None:
    """Makes mount points. This process must be in a mount namespace of its own; its working directory stays
    the same.

    Raises OSError; UsageError for a directory with too many names.
    """
    together: dict[str, list[tuple[str, ...]]] = {}
    for point in points:
        together.setdefault(point.above, []).append(point.names)
    here = os.getcwd()
    for above in sorted(together, key=lambda path: path.count("/") if path != "/" else -1):
        _cover(above, together[above])
    os.chdir(here)


def _cover(above: str, wanted: list[tuple[str, ...]]) -> None:
    with _opened(above) as (entries, mode):
        top = above if above != "/" else _room(entries)
        namespaces.mount("tmpfs", top, "tmpfs", _FLAGS, f"mode={mode:04o}")
        for name in sorted(entries, key=lambda name: f"/{name}" != top):
            _show(entries[name], os.path.join(top, name))
            if f"/{name}" == top:
                namespaces.unmount(os.path.join(top, name))  # the new filesystem was shown with it
        for names in wanted:
            os.makedirs(os.path.join(top, *names), 0o755, exist_ok=True)
    namespaces.mount("", top, flags=namespaces.BIND | namespaces.REMOUNT | namespaces.READ_ONLY | _FLAGS)
    if above == "/":
        os.chdir(top)
        namespaces.mount(".", "/", flags=namespaces.MOVE)
        os.chroot(".")


def _room(entries: dict[str, int]) -> str:
    """Returns the path of a directory in / that can be covered while the new root is built there; /proc, /dev
    and /sys are not taken. `entries`: name -> descriptor of each name in /."""
    for name, number in entries.items():
        if name not in ("proc", "dev", "sys") and stat.S_ISDIR(os.fstat(number).st_mode):
            return f"/{name}"
    raise UsageError("mount point: / has no directory")


@contextmanager
def _opened(directory: str) -> Iterator[tuple[dict[str, int], int]]:
    """Opens every name of a directory for the block; yields ({name: descriptor}, the directory's mode)."""
    names = os.listdir(directory)
    if len(names) > _MOST:
        raise UsageError(f"{directory} has {len(names)} names, too many to add one; make it there first")
    entries: dict[str, int] = {}
    try:
        for name in names:
            path = os.path.join(directory, name)
            entries[name] = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        yield entries, stat.S_IMODE(os.stat(directory).st_mode)
    finally:
        for number in entries.values():
            os.close(number)


def _show(number: int, path: str) -> None:
    """Binds the file that a descriptor is open on, with all mounts below it, at a path."""
    mode = os.fstat(number).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink("", dir_fd=number), path)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    namespaces.mount(f"/proc/self/fd/{number}", path, flags=namespaces.BIND | namespaces.RECURSIVE)
