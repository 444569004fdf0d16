"""The files of a store that an origin serves: none behind a link, and no private key."""

import errno
import os
import re
import stat

from lazyfs.core.errors import UsageError
from lazyfs.store.request_counters import KINDS

_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def check_store(store: str) -> None:
    """Raises UsageError if `store` has no metadata/, if a private key lies anywhere but among its objects, or
    if data/ or metadata/ is a link, whose files would not be served."""
    if not os.path.isfile(os.path.join(store, "metadata", "timestamp.json")):
        raise UsageError(f"{store} is not a store: make one with `lazyfs repo init {store} --name NAME`")
    for kind in KINDS:
        if os.path.islink(path := os.path.join(store, kind)):
            raise UsageError(
                f"{path} is a link, and none is followed: mount the folder there, or serve it with nginx"
            )
    for directory, names, files in os.walk(store):
        if os.path.basename(directory) == "data":
            names[:] = [name for name in names if not re.fullmatch(r"[0-9a-f]{2}", name)]
        for name in files:
            path = os.path.join(directory, name)
            if name.endswith((".pem", ".pem.retired")) or _is_private_key(path):
                raise UsageError(
                    f"private key {path} lies in the store: move it away before serving the store"
                )


def _is_private_key(path: str) -> bool:
    try:
        descriptor = os.open(path, _FILE)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and b"PRIVATE KEY" in os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def open_file(store: str, path: str) -> int:
    """Returns a descriptor of the regular file at `path` in the store. Follows no link below the store, since
    a link could lead out of the store, and does not block on a pipe. Raises OSError."""
    *above, name = path.split("/")
    here = os.open(store, _DIRECTORY)
    try:
        for step in above:
            below = os.open(step, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        descriptor = os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
