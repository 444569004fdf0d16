"""Makes mount points in directories of an image that have too many names for an underlay.

An underlay (`underlay`) costs an argument of the runtime, and a mount, for each name. Here one overlay
filesystem joins the image's directory with a small one that has the missing names. The overlay is mounted
over the image's own directory, in a mount namespace that only the runtime enters, so the runtime finds all
names.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.underlay import CoveredDirectory
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.private_mounts import enter_private_mounts, mount_joined, mount_temporary
from lazyfs.system.rooted_paths import open_without_links

_TRIAL_SECONDS = 20


class AddedName(NamedTuple):
    """A mount point that the image lacks."""

    path: str
    """The mount point's path below the joined directory, free of links."""
    is_directory: bool


class JoinedDirectory(NamedTuple):
    """A directory of the image, and the names that are added to it."""

    path: str
    mode: int
    added: tuple[AddedName, ...]


class CompletedImage(NamedTuple):
    """An image's root filesystem, and the directories to be joined in it, parents before their children."""

    root: str
    directories: tuple[JoinedDirectory, ...]


def completed(
    root: str, made: Sequence[CoveredDirectory], points: Sequence[tuple[str, str, bool]]
) -> CompletedImage:
    """Returns the image with the mount points that overlays add to it. `made`: the directories that lack
    mount points.

    `points`: (path, the directory that lacks it, True if a directory is mounted there) for each mount point.
    """
    directories = []
    for cover in made:
        added = [
            AddedName(os.path.relpath(path, cover.path), is_directory)
            for path, made_in, is_directory in points
            if made_in == cover.path
        ]
        directories.append(JoinedDirectory(cover.path, cover.mode, tuple(added)))
    return CompletedImage(root, tuple(directories))


def check(image: CompletedImage) -> None:
    """Tries `complete` in a child process. Raises UsageError if this machine refuses to make the overlays."""
    answer = ask_one(lambda: _trial(image), _TRIAL_SECONDS)
    said = answer.value if answer.came else f"no answer in {_TRIAL_SECONDS} s"
    if said:
        raise UsageError(
            f"a bind target is missing in {', '.join(directory.path for directory in image.directories)}, "
            f"which has too many names to be built from its parts, and this machine makes no overlay "
            f"filesystem for a user ({said}; Linux 5.11 does); bind to a path that the image has"
        )


def _trial(image: CompletedImage) -> str:
    try:
        complete(image)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def complete(image: CompletedImage) -> None:
    """Moves this process into a new mount namespace, and makes the missing names of the image there.

    Raises OSError.
    """
    enter_private_mounts()
    with ExitStack() as opened:

        def keep(number: int) -> int:
            opened.callback(os.close, number)
            return number

        # All directories are opened before the first mount: the kernel lays overlays over overlays only
        # twice.
        below = [keep(_open(image.root, directory.path)) for directory in image.directories]
        for directory, lower in zip(image.directories, below, strict=True):
            mount_temporary(keep(_open(image.root, directory.path)), 0o755)
            top = keep(_open(image.root, directory.path))
            os.mkdir("added", dir_fd=top)
            upper = keep(os.open("added", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top))
            for added in directory.added:
                _make(upper, added)
            os.fchmod(upper, directory.mode)
            mount_joined(top, upper, lower)


def _open(root: str, path: str) -> int:
    """Opens a directory of the image as it is now, with the mounts that were made so far."""
    image = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_without_links(image, path, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(image)


def _make(upper: int, added: AddedName) -> None:
    """Makes a name and its parent directories below the directory with the descriptor `upper`. Everybody may
    enter these parent directories, whatever the umask."""
    *parents, last = added.path.split("/")
    directories = [*parents, last] if added.is_directory else parents
    path = ""
    for name in directories:
        path = os.path.join(path, name)
        try:
            os.mkdir(path, dir_fd=upper)
        except FileExistsError:
            continue
        os.chmod(path, 0o755, dir_fd=upper)  # noqa: S103 - like a directory that bwrap makes
    if not added.is_directory:
        os.close(os.open(added.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=upper))
