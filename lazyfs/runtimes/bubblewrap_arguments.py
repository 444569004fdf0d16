"""The arguments of bwrap that describe a program's tree and its environment."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bind_places import Arrangement, BindPlace, arrange, shows_devices
from lazyfs.runtimes.joined_directories import CompletedImage, check, completed
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.pinned_root import PinnedRoot
from lazyfs.runtimes.proc_covers import list_proc, proc_covers
from lazyfs.runtimes.underlay import CoveredDirectory, covers

_OF_THE_HOST = (Bind("/etc/resolv.conf", "/etc/resolv.conf", True), Bind("/etc/hosts", "/etc/hosts", True))
_MOST = 9000
"""The largest number of arguments that bwrap accepts: MAX_ARGS in bubblewrap.c."""
_MOST_DESCRIPTORS = 256
"""The largest number of open descriptors that bwrap gets: a process may have 1,024 by default. Each part of
an image that has a bind of its own needs one: the root, or a name in a directory that a tmpfs covers."""


class Described(NamedTuple):
    """The arguments of bwrap for one start, and the parts of the image that have to be ready when bwrap reads
    them."""

    arguments: tuple[str, ...]
    """All arguments but the command."""
    shown: tuple[str, ...]
    """The same arguments for people, with paths in place of descriptors."""
    held: tuple[PinnedRoot, ...]
    """The parts of the image that the arguments name by descriptor."""
    image: CompletedImage | None
    """The image whose missing mount points are made by overlays; None if bwrap's own arguments make them."""


def describe(launch: Launch, isolation: tuple[str, ...], *, by_descriptor: bool) -> Described:
    """Returns the description of a start. `isolation`: the arguments that isolate the program, which come
    first. Raises UsageError for a bind that cannot be made.

    `by_descriptor`: True if bwrap is to get each part of the image as an open descriptor in place of a path;
    paths are used nevertheless if there are over _MOST_DESCRIPTORS parts. With descriptors, a name that
    changes in a published tree cannot lead bwrap to another file.
    """
    tree = arrange(launch.root, launch.binds, _OF_THE_HOST)
    made = covers(launch.root, tree.places)
    rest = (*_environment(launch),)
    image = None
    shown = (*isolation, *_filesystem(launch, tree, made, _ByPath(launch.root)), *rest)
    if made and len(shown) > _MOST:
        image = completed(launch.root, made, _points(tree))
        made = []
        shown = (*isolation, *_filesystem(launch, tree, made, _ByPath(launch.root)), *rest)
    if len(shown) > _MOST:
        raise UsageError(
            f"the start takes {len(shown)} arguments, and bwrap takes {_MOST}: too many variables or binds; "
            "leave some out"
        )
    if image is not None:
        check(image)
    parts = sum(len(cover.shown) for cover in made) + 1
    if not by_descriptor or launch.pinned is None or image is not None or parts > _MOST_DESCRIPTORS:
        return Described(shown, shown, (), image)
    opened = _ByDescriptor(launch.pinned)
    arguments = (*isolation, *_filesystem(launch, tree, made, opened), *rest)
    return Described(arguments, shown, tuple(opened.held), image)


class _ByPath:
    """Makes the options that bind parts of the image by their paths."""

    def __init__(self, root: str) -> None:
        self._root = root

    def option(self, inside: str) -> tuple[str, str]:
        return "--ro-bind", self._root if inside == "/" else self._root.rstrip("/") + inside


class _ByDescriptor:
    """Makes the options that bind parts of the image by descriptor; opens the parts and holds them open."""

    def __init__(self, root: PinnedRoot) -> None:
        self._root = root
        self.held: list[PinnedRoot] = []

    def option(self, inside: str) -> tuple[str, str]:
        part = self._root if inside == "/" else self._root.part(inside)
        self.held.append(part)
        return "--ro-bind-fd", str(part.number)


def _points(tree: Arrangement) -> list[tuple[str, str, bool]]:
    """Returns (path, the directory that lacks the path, True for a directory) for each mount point to be
    made."""
    kinds = [(place, True) for place in (tree.proc, tree.dev, tree.tmp)]
    kinds += [(place, os.path.isdir(bind.source)) for bind, place in tree.binds]
    return [(place.path, place.made_in, kind) for place, kind in kinds if place.made_in is not None]


def _filesystem(
    launch: Launch, tree: Arrangement, made: Sequence[CoveredDirectory], image: _ByPath | _ByDescriptor
) -> Iterator[str]:
    """Yields the arguments that build the tree, in the order in which bwrap executes them. `made`: the
    directories that an empty filesystem covers, so that mount points can be made in them (`underlay`)."""
    root_is_covered = bool(made) and made[0].path == "/"
    if not root_is_covered:
        yield from (*image.option("/"), "/")
    for cover in made:
        if cover.path != "/":  # bwrap's own root is an empty tmpfs already
            yield from ("--perms", f"{cover.mode:04o}", "--tmpfs", cover.path)
        for name in cover.shown:
            inside = os.path.join(cover.path, name)
            yield from (*image.option(inside), inside)
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
    """Returns bwrap's option for a bind."""
    devices = shows_devices(bind)
    if bind.read_only:
        return "--ro-bind"
    return "--dev-bind" if devices else "--bind"


def _environment(launch: Launch) -> Iterator[str]:
    yield "--clearenv"
    for name, value in launch.environment.items():
        yield from ("--setenv", name, value)
    yield from ("--chdir", launch.workdir)
