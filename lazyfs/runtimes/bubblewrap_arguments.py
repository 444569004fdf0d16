"""The arguments of bwrap that describe a program's tree and its environment."""

import os
import stat
from collections.abc import Iterator

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bind_places import BindPlace, arrange
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.proc_covers import list_proc, proc_covers
from lazyfs.runtimes.underlay import covers

_OF_THE_HOST = (Bind("/etc/resolv.conf", "/etc/resolv.conf", True), Bind("/etc/hosts", "/etc/hosts", True))
_MOST = 9000
"""The most arguments that bwrap accepts: MAX_ARGS in bubblewrap.c."""


def arguments(launch: Launch, isolation: tuple[str, ...]) -> tuple[str, ...]:
    """Returns all arguments but the command. Raises UsageError for a bind that cannot be made."""
    found = (*isolation, *_filesystem(launch), *_environment(launch))
    if len(found) > _MOST:
        raise UsageError(
            f"the start takes {len(found)} arguments, and bwrap takes {_MOST}: too many variables, or a bind "
            "target that is missing in a directory of too many names; bind to one that the image has"
        )
    return found


def _filesystem(launch: Launch) -> Iterator[str]:
    """Yields the arguments that build the tree, in the order in which bwrap executes them."""
    root = launch.root
    tree = arrange(root, launch.binds, _OF_THE_HOST)
    made = covers(root, tree.places)
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
