"""Allows one mount of this user at a time on a mount point: no second one is made between the check that the
mount point is free and the mount."""

import fcntl
import hashlib
import os
import time
from contextlib import suppress

from lazyfs.core.errors import UsageError
from lazyfs.system.trusted_files import open_file

_PAUSE = 0.05
"""Seconds between attempts to take the lock."""


class MountLock:
    """The lock of a path in this mount namespace, held while a mount is being made there. It is released when
    the process ends, if not before."""

    def __init__(self, directory: str, mountpoint: str, seconds: float) -> None:
        """Takes the lock. If another mount is being made there, first waits, for at most `seconds`, until
        that mount has succeeded or failed.

        `directory`: the runtime directory. Raises UsageError.
        """
        namespace = os.readlink("/proc/self/ns/mnt")
        name = hashlib.sha256(os.fsencode(f"{namespace} {mountpoint}")).hexdigest()[:20]
        self._path = os.path.join(directory, f"{name}.lock")
        deadline = time.monotonic() + seconds
        while (descriptor := self._attempt()) < 0:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"mount point {mountpoint}: another lazyfs mount there{self._holder()} has not ended in "
                    f"{seconds:g} s; kill it or wait for it"
                )
            time.sleep(_PAUSE)
        self._descriptor = descriptor
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())

    def _attempt(self) -> int:
        """Returns a locked descriptor, or -1 if the lock is held."""
        try:
            descriptor = open_file(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}; set LAZYFS_RUNTIME_DIR") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):  # held, or its last holder has just removed it
            pass
        os.close(descriptor)
        return -1

    def _holder(self) -> str:
        with suppress(OSError), open(self._path, encoding="utf-8", errors="replace") as file:
            return f" (pid {file.read(20)})"
        return ""

    def release(self) -> None:
        """Releases the lock, once; later calls do nothing."""
        if self._descriptor < 0:
            return
        with suppress(OSError):  # a daemon that is no longer root leaves the file
            os.unlink(self._path)
        os.close(self._descriptor)
        self._descriptor = -1
