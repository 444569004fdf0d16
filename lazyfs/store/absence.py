"""Distinguishes a file that a store directory does not have from a file that cannot be reached now.

Opening either of them fails with ENOENT. A file cannot be reached if a link leads nowhere for the moment, if
a directory was moved away, or if a filesystem is not mounted. A caller that took such a file for a missing
one would give up files that are still needed.
"""

import errno
import os
import stat


def check_absent(path: str) -> None:
    """To be called after opening `path` (`data/ab/cd...` of a store) has failed with ENOENT. Returns if there
    is certainly no object at `path`; otherwise raises OSError. It is certain if the directory of `path`
    exists and is no link, or if data/ can be listed and does not have that directory."""
    _check_no_link(path)
    directory = os.path.dirname(path)
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        os.scandir(os.path.dirname(directory)).close()
        return
    if not stat.S_ISDIR(found.st_mode):
        raise _unreachable(directory)


def check_no_metadata(path: str) -> None:
    """To be called after opening `path` (`metadata/NAME` of a store) has failed with ENOENT. Returns if there
    is certainly no file at `path`, or if the directory above metadata/ has never been made a store;
    otherwise raises OSError."""
    directory = os.path.dirname(path)
    data = os.path.join(os.path.dirname(directory), "data")
    _check_no_link(path)
    if not os.path.isdir(directory) and os.path.lexists(data):
        raise _unreachable(directory)


def _check_no_link(path: str) -> None:
    """Raises OSError if `path` is a link. A file at `path` that is no link was made after the caller had
    looked: that is no error."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise _unreachable(path)


def _unreachable(path: str) -> OSError:
    return OSError(errno.ENOENT, "it should be there, but leads nowhere now", path)
