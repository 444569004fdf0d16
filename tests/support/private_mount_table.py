"""A table of mounts of one test alone: no container of another test can take copies of its mounts along."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNS = 0x20000


@contextmanager
def private_mount_table() -> Iterator[None]:
    """Moves this thread, with the processes that it starts, into a mount namespace of its own for the block.

    Mounts that are made and taken away outside come and go in it too; its own are not seen outside.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before, directory = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), os.getcwd()
    try:
        if libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["mount", "--make-rslave", "/"], check=True)
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "setns")
            os.chdir(directory)
    finally:
        os.close(before)
