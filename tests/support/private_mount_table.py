"""A mount namespace for one test, so that no container of another test can copy its mounts."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNS = 0x20000


@contextmanager
def private_mount_table() -> Iterator[None]:
    """Moves this thread, and the processes that it starts, into a new mount namespace for the block.

    Mounts and unmounts outside take effect inside too, but not the other way round.
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
