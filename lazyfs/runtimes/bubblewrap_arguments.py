"""The arguments of bwrap that describe a program's tree and its environment."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bind_places import Arrangement, BindPlace, arrange
from lazyfs.runtimes.joined_directories import CompletedImage, check, completed
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.proc_covers import list_proc, proc_covers
from lazyfs.runtimes.underlay import CoveredDirectory, covers

_OF_THE_HOST = (Bind("/etc/resolv.conf", "/etc/resolv.conf", True), Bind("/etc/hosts", "/etc/hosts", True))
_MOST = 9000
"""The most arguments that bwrap accepts: MAX_ARGS in bubblewrap.c."""


class Described(NamedTuple):
    """The arguments of a start, and the image that they suppose."""

    arguments: tuple[str, ...]
    """All arguments but the command."""
    image: CompletedImage | None
    """The image with added names; None if the arguments add all names themselves."""


def describe(launch: Launch, isolation: tuple[str, ...]) -> Described:
    """Returns the description of a start. Raises UsageError for a bind that cannot be made."""
    tree = arrange(launch.root, launch.binds, _OF_THE_HOST)
    made = covers(launch.root, tree.places)
    rest = (*_environment(launch),)
    found = (*isolation, *_filesystem(launch, tree, made), *rest)
    image = None
    if made and len(found) > _MOST:
        image = completed(launch.root, made, _points(tree))
        found = (*isolation, *_filesystem(launch, tree, ()), *rest)
    if len(found) > _MOST:
        raise UsageError(
            f"the start takes {len(found)} arguments, and bwrap takes {_MOST}: too many variables or binds; "
            "leave some out"
        )
    if image is not None:
        check(image)
    return Described(found, image)


def _points(tree: Arrangement) -> list[tuple[str, str, bool]]:
    """Returns (path, the directory that lacks it, True for a directory) of each mount point to be made."""
    kinds = [(place, True) for place in (tree.proc, tree.dev, tree.tmp)]
    kinds += [(place, os.path.isdir(bind.source)) for bind, place in tree.binds]
    return [(place.path, place.made_in, kind) for place, kind in kinds if place.made_in is not None]


def _filesystem(launch: Launch, tree: Arrangement, made: Sequence[CoveredDirectory]) -> Iterator[str]:
    """Yields the arguments that build the tree, in the order in which bwrap executes them. `made`: the
    directories to be covered."""
    root = launch.root
    root_is_covered = bool(made) and made[0].path == "/"
    if not root_is_covered:
        yield from ("--ro-bind", root, "/")
    for cover in made:
        if cover.path != "/":  # bwrap's own root is an empty tmpfs already
            yield from ("--perms", f"{cover.mode:04o}", "--tmpfs", cover.path)
        for name in cover.shown:
            inside = os.path.join(cover.path, name)
            yield from ("--ro-bind", root.rstrip("/") + inside, inside)
        for name, target in cover.links:
            yield from ("--symlink", target, os.path.join(cover.path, name))
    if made:
        for place in tree.places:
            yield from _parents(place)
    yield from ("--proc", tree.proc.path, "--dev", tree.dev.path, "--tmpfs", tree.tmp.path)
    if launch.as_root:
        yield from _proc_covers()
    for bind, place in tree.binds:
        yield from (_bind_option(bind), bind.source, place.path)
    for cover in reversed(made):
        yield from ("--remount-ro", cover.path)


def _parents(place: BindPlace) -> Iterator[str]:
    """Yields the arguments that make the directories above a new mount point, with a mode that lets everybody
    in: directories that bwrap makes by itself have mode 0700."""
    if place.made_in is not None:
        names = place.path.removeprefix(place.made_in).strip("/").split("/")[:-1]
        for depth in range(1, len(names) + 1):
            yield from ("--perms", "0755", "--dir", os.path.join(place.made_in, *names[:depth]))


def _proc_covers() -> Iterator[str]:
    found = proc_covers(list_proc())
    for name in found.read_only:
        yield from ("--ro-bind", f"/proc/{name}", f"/proc/{name}")
    for name in found.empty_files:
        yield from ("--ro-bind", os.devnull, f"/proc/{name}")
    for name in found.empty_directories:
        yield from ("--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}")


def _bind_option(bind: Bind) -> str:
    """Returns bwrap's option for a bind. Only devices and folders of devices are bound so that devices can be
    opened; all else is bound nodev."""
    source = os.path.realpath(bind.source)
    mode = os.stat(source).st_mode
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    if device and bind.read_only:
        raise UsageError(
            f"bind {bind.source}: a device cannot be bound read-only; leave :ro out, or leave out the bind"
        )
    if bind.read_only:
        return "--ro-bind"
    return "--dev-bind" if device or source == "/dev" or source.startswith("/dev/") else "--bind"


def _environment(launch: Launch) -> Iterator[str]:
    yield "--clearenv"
    for name, value in launch.environment.items():
        yield from ("--setenv", name, value)
    yield from ("--chdir", launch.workdir)
