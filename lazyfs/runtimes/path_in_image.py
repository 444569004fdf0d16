"""Looks up, from outside, paths as a program inside a root filesystem sees them."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from lazyfs.core.errors import FormatError, LazyfsError, UsageError
from lazyfs.system.rooted_paths import Location, open_in_root
from lazyfs.system.rooted_paths import locate as locate_by_descriptor

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG})


def resolve(root: str, path: str) -> tuple[str, str]:
    """Follows all links of a path inside `root`; returns (the part that exists, the missing rest).

    The existing part is absolute inside the root, and both are free of links. Joined they are the target of
    `path`: `/var/run/x`, where /var/run is a link to /run and /run is empty, gives (`/run`, `x`). Absolute
    links and `..` never leave the root. Raises UsageError for a loop of links and for a path that continues
    below a file.
    """
    place = locate(root, path)
    return place.found, "/".join(place.rest)


def locate(root: str, path: str, stops: Collection[str] = ()) -> Location:
    """Follows a path as `resolve` does, but stops at the paths in `stops`, the mount points. Returns a
    Location: where the walk along the path has ended, the names after that, and whether a link was
    followed."""
    try:
        with opened(root) as directory:
            return locate_by_descriptor(directory, path, stops)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: goes through {error.filename}, which the image does not have") from None
    except NotADirectoryError as error:
        raise UsageError(f"{path}: {error.filename} in the image is a file") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path}: {error.strerror} in the image") from None
        raise UsageError(f"{path}: {error.filename} in the image: {error.strerror}") from None


def read(root: str, path: str, limit: int) -> bytes | None:
    """Returns a regular file's content, links followed inside the root; None if the image has no such file.

    Raises FormatError if the content is longer than `limit` bytes, LazyfsError if it cannot be read.
    """
    try:
        with opened(root) as directory:
            number = open_in_root(directory, path, os.O_PATH)
        with closing_descriptor(number):
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return None
            # Opened for reading only now: merely opening a device can have effects.
            with open(f"/proc/self/fd/{number}", "rb") as file:
                content = file.read(limit + 1)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise LazyfsError(f"{root}{path}: {error.strerror}") from None
    if len(content) > limit:
        raise FormatError(f"{root}{path}: longer than {limit} bytes, which no start file is")
    return content


@contextmanager
def opened(directory: str) -> Iterator[int]:
    """Opens a directory for the block; the descriptor serves only for looking up names in it."""
    number = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with closing_descriptor(number):
        yield number


@contextmanager
def closing_descriptor(number: int) -> Iterator[int]:
    """Closes the descriptor at the end of the block."""
    try:
        yield number
    finally:
        os.close(number)
