"""Makes mount points that an image does not have, without writing to the image.

An empty temporary filesystem covers the directory that lacks the name. The image's files in that directory
are bound into it again, and the missing name is made beside them. An existing name is never replaced, and no
link is followed. (Apptainer calls this an underlay; it needs no privilege and no overlay filesystem.)
"""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from lazyfs.runtimes.bind_places import BindPlace


class CoveredDirectory(NamedTuple):
    """One directory to be covered, and the names of the image that are shown in it again."""

    path: str
    mode: int
    shown: tuple[str, ...]
    """Names of the image that are bound into the new directory."""
    links: tuple[tuple[str, str], ...]
    """(name, target) of the image's symbolic links, which are made again in the new directory."""


def covers(root: str, points: Iterable[BindPlace]) -> list[CoveredDirectory]:
    """Returns the directories to cover so that all of the missing mount points can be made, parents before
    their children."""
    wanted = {point.made_in for point in points if point.made_in is not None}
    return [_cover(root, path) for path in sorted(wanted, key=lambda path: (path.count("/"), path))]


def _cover(root: str, path: str) -> CoveredDirectory:
    shown: list[str] = []
    links: list[tuple[str, str]] = []
    with os.scandir(root + path) as entries:
        for entry in entries:
            if entry.is_symlink():
                links.append((entry.name, os.readlink(entry.path)))
            else:
                shown.append(entry.name)
    mode = stat.S_IMODE(os.lstat(root + path).st_mode)
    return CoveredDirectory(path, mode, tuple(sorted(shown)), tuple(sorted(links)))
