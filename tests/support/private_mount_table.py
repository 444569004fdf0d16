"""Mount namespaces of the tests' own: no container of another test copies the mounts in them.

A copy keeps a mount, and with it the mount's daemon, until the last process of the container has ended.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lazyfs.core.errors import UsageError
from lazyfs.system import mountpoint as points

_CLONE_NEWNS = 0x20000
_LIBC = ctypes.CDLL(None, use_errno=True)


def leave_shared_mount_table() -> None:
    """Moves the main thread, and the threads and processes that it starts, into a new mount namespace. Takes
    no mount of lazyfs along.

    Mounts and unmounts outside may take effect inside too, but not the other way round. Raises OSError.
    """
    if _LIBC.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rslave", "/"], check=True)
    for mount in reversed(points.mounts()):
        if mount.fstype == points.FSTYPE:
            with suppress(UsageError):  # it has gone meanwhile, or another mount hides it
                points.unmount(mount.mountpoint)


@contextmanager
def private_mount_table() -> Iterator[None]:
    """Runs the block in a mount namespace of its own, which ends with the block."""
    before, directory = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), os.getcwd()
    try:
        try:
            leave_shared_mount_table()
            yield
        finally:
            if _LIBC.setns(before, _CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "setns")
            os.chdir(directory)
    finally:
        os.close(before)
