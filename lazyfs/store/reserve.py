"""Space that a store directory sets aside, so that a collection can write its lists on a full disk."""

import errno
import os

from lazyfs.system import durable_file

NAME = ".reserve"
SIZE = 4 << 20
"""Bytes set aside. A list of 32,768 objects takes 1 MiB and is written twice; signed files take some KB."""


def give_up(store: str) -> None:
    """Frees the reserved space, for the collection's lists."""
    try:
        os.unlink(os.path.join(store, NAME))
    except FileNotFoundError:
        return
    durable_file.flush(store)


def set_aside(store: str) -> None:
    """Reserves the space, unless that was done before or the disk has too little free space."""
    path = os.path.join(store, NAME)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return
        raise
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
    except OSError as error:
        os.unlink(path)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
