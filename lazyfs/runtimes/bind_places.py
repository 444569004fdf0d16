"""Finds the mount points of binds in an image, so that no image can make a runtime create a file on the host.

A runtime builds the program's file tree while it still sees the host. The target of a bind may be below
/proc, for example, and lead to the host through links such as /proc/1/root: then the mount point would be
made on the host. So this module follows each target inside the image to a path without links. The result
depends on what that path reaches first: an earlier mount, a place where binds are forbidden, or the image
itself.
"""

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.bind_order import in_order
from lazyfs.runtimes.launch import Bind
from lazyfs.system.rooted_paths import Location, open_without_links

PROC, DEV, TMP = "/proc", "/dev", "/tmp"  # noqa: S108 - the program's own
_DEV_LINKS = frozenset({"fd", "stdin", "stdout", "stderr", "core", "ptmx"})
"""Names in a new /dev that are links, some of them into /proc."""


def shows_devices(bind: Bind) -> bool:
    """Returns True if devices can be opened in the bind: its source is a device, /dev, or below /dev. Every
    other bind is mounted with nodev. Raises UsageError for a device that is to be read-only."""
    source = os.path.realpath(bind.source)
    mode = os.stat(source).st_mode
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    if device and bind.read_only:
        raise UsageError(
            f"bind {bind.source}: a device cannot be bound read-only; leave :ro out, or leave out the bind"
        )
    return device or f"{source}/".startswith("/dev/")


class BindPlace(NamedTuple):
    """The mount point of a bind."""

    path: str
    """The path inside the root, free of links."""
    made_in: str | None
    """The existing directory that lacks the path: an empty filesystem is mounted over it, and the mount point
    is made there. None if the path exists."""


class Arrangement(NamedTuple):
    """All mount points of a start, in the order of mounting."""

    tmp: BindPlace
    proc: BindPlace
    dev: BindPlace
    binds: tuple[tuple[Bind, BindPlace], ...]

    @property
    def places(self) -> tuple[BindPlace, ...]:
        return (self.proc, self.dev, self.tmp, *(place for _, place in self.binds))


class MountPoints(NamedTuple):
    """The paths in an image at which something else than the image is seen."""

    all: frozenset[str]
    """Absolute paths, free of links."""
    empty: str | None
    """The image's /tmp, links followed, which is empty; None if something is bound there."""


def arrange(root: str, binds: Sequence[Bind], offered: Sequence[Bind]) -> Arrangement:
    """Returns the mount points of the caller's `binds` as `in_order` sorts them, and then of the `offered`
    binds: files of the machine that a program can do without. An offered file is left out if the caller has
    bound something at its path, or if the image has something other than a file there.

    Raises UsageError for an image whose /proc or /dev is a link, whose /tmp leads to one of them or to the
    root, or in which one of the three is no directory; for a target that leads below /proc or /dev, or to a
    directory that contains the image's /tmp; for a target that would have to be made in a directory of the
    host; and as `in_order`.
    """
    proc, dev = _own(root, PROC), _own(root, DEV)
    tmp = _tmp(root)
    mounted: dict[str, Bind | None] = {PROC: None, DEV: None, tmp.path: None}
    placed: list[tuple[Bind, BindPlace]] = []
    for bind, _ in in_order(root, binds, tuple(mounted)):
        place = _place(root, bind, mounted)
        if tmp.path.startswith(f"{place.path}/"):
            raise UsageError(
                f"bind target {bind.target}: covers {tmp.path}, to which the image's {TMP} leads; bind what "
                "is needed below it"
            )
        mounted[place.path] = bind
        placed.append((bind, place))
    for bind in offered:
        if os.path.isfile(bind.source):
            try:
                where = path_in_image.locate(root, bind.target, mounted)
                place = _in_image(bind, where)
            except UsageError:
                continue
            if not where.stopped:
                placed.append((bind, place))
    return Arrangement(tmp, proc, dev, tuple(placed))


def mount_points(root: str, binds: Sequence[Bind]) -> MountPoints:
    """Returns the paths at which a start mounts something. Unlike `arrange`, refuses no image for its /tmp,
    /proc or /dev. Raises as `in_order`."""
    try:
        tmp = _path(path_in_image.locate(root, TMP, (PROC, DEV)))
    except UsageError:
        tmp = TMP
    own = (PROC, DEV, tmp)
    bound = frozenset(path for _, path in in_order(root, binds, own))
    return MountPoints(bound.union(own), None if tmp in bound else tmp)


def _own(root: str, path: str) -> BindPlace:
    """Returns the mount point of /proc or /dev in the image. Raises UsageError unless the image has a
    directory or nothing at this path: a link would lead elsewhere."""
    if os.path.islink(root + path):
        raise UsageError(f"image {root}: its {path} is a link; a program needs a directory there")
    return _kind_checked(path, path_in_image.locate(root, path), directory=True)


def _tmp(root: str) -> BindPlace:
    where = path_in_image.locate(root, TMP, (PROC, DEV))
    if where.stopped or _path(where) == "/":
        raise UsageError(f"image {root}: its {TMP} leads to {_path(where)}, which is no place for files")
    return _kind_checked(TMP, where, directory=True)


def _place(root: str, bind: Bind, mounted: dict[str, Bind | None]) -> BindPlace:
    """Returns the mount point of one of the caller's binds. `mounted`: path -> the caller's bind that is
    mounted there already; None stands for lazyfs's own mount of /proc, /dev or /tmp."""
    where = path_in_image.locate(root, bind.target, mounted)
    if not where.stopped:
        return _in_image(bind, where)
    path = _path(where)
    if ".." in where.rest:
        raise UsageError(f"bind target {bind.target}: leads to {path}; give the path without links")
    outer = mounted[where.found]
    if outer is not None:
        _check_inside(bind, outer, where.rest)
    elif where.found == PROC:
        raise UsageError(f"bind target {bind.target}: leads to {path}, and nothing can be bound in {PROC}")
    elif where.found == DEV and (where.linked or (where.rest and where.rest[0] in _DEV_LINKS)):
        raise UsageError(f"bind target {bind.target}: leads through a link to {path}; bind it elsewhere")
    elif not where.rest:
        _check_kind(bind.target, stat.S_IFDIR, directory=os.path.isdir(bind.source))
    return BindPlace(path, None)


def _check_inside(bind: Bind, outer: Bind, rest: tuple[str, ...]) -> None:
    """Checks a mount point inside another bind, `outer`. Raises UsageError unless it exists already, with no
    link on the way: a runtime would make a missing mount point on the host, or follow a link there. `rest`:
    the mount point's path below the target of `outer`, name by name."""
    inner = "/".join(rest)
    there = os.path.join(outer.source, inner)
    try:
        number = os.open(outer.source, os.O_PATH | os.O_CLOEXEC)
        with path_in_image.closing_descriptor(number):
            found = open_without_links(number, inner, os.O_PATH) if rest else os.dup(number)
        with path_in_image.closing_descriptor(found):
            mode = os.fstat(found).st_mode
    except FileNotFoundError:
        raise UsageError(
            f"bind target {bind.target}: {there} does not exist on this machine; make it first"
        ) from None
    except OSError as error:
        raise UsageError(
            f"bind target {bind.target}: {there}: {error.strerror}; it must be there, with no link in it"
        ) from None
    if stat.S_ISLNK(mode):
        raise UsageError(f"bind target {bind.target}: {there} is a link; give the path that it leads to")
    _check_kind(bind.target, mode, directory=os.path.isdir(bind.source))


def _in_image(bind: Bind, where: Location) -> BindPlace:
    if _path(where) == "/":
        raise UsageError(f"bind target {bind.target}: leads to / in the image, which cannot be covered")
    return _kind_checked(bind.target, where, directory=os.path.isdir(bind.source))


def _kind_checked(target: str, where: Location, *, directory: bool) -> BindPlace:
    if where.rest:
        if not stat.S_ISDIR(where.mode):
            raise UsageError(f"bind target {target}: {where.found} in the image is a file")
        return BindPlace(_path(where), where.found)
    if not where.stopped:
        _check_kind(target, where.mode, directory=directory)
    return BindPlace(where.found, None)


def _check_kind(target: str, mode: int, *, directory: bool) -> None:
    if stat.S_ISDIR(mode) != directory:
        here, there = ("directory", "file") if directory else ("file", "directory")
        raise UsageError(f"bind target {target}: the source is a {here}, the image has a {there} there")


def _path(where: Location) -> str:
    return os.path.join(where.found, *where.rest)
