"""Three kinds of lock. The kernel drops each of them when its holder dies."""

import errno
import fcntl
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs_cache.policy.waiting import Patience


class IndexLock:
    """A lock, taken with a time-out, that one thread of all processes has at a time: it is held around a
    transaction.

    Between processes it is flock(2), polled: a blocking flock cannot have a time-out without signals. A
    process that was stopped within a transaction is not waited for again and again (`Patience`).
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._threads = threading.Lock()
        self._patience = Patience()

    @contextmanager
    def held(self, timeout: float) -> Iterator[bool]:
        """Yields True if the lock could be taken within `timeout` seconds, and then holds it for the block;
        otherwise yields False."""
        timeout = self._patience.allowed(timeout)
        deadline = time.monotonic() + timeout
        if not self._threads.acquire(timeout=timeout):
            yield False
            return
        try:
            began = time.monotonic()  # other threads' turns do not count as waiting
            if not self._flock(deadline):
                self._patience.missed(time.monotonic() - began)
                yield False
                return
            self._patience.got()
            try:
                yield True
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _flock(self, deadline: float) -> bool:
        pause = 0.0002  # about the length of one transaction
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() + pause > deadline:
                    return False
            except OSError:
                return False  # ENOLCK, EIO: treated as if another process had it
            time.sleep(pause)
            pause = min(pause * 1.5, 0.005)

    def generation(self) -> int:
        """Returns the number of the index in use, as last set by any process; 0 at first."""
        return int.from_bytes(os.pread(self._fd, 8, 0), "big")

    def set_generation(self, number: int) -> None:
        os.pwrite(self._fd, number.to_bytes(8, "big"), 0)

    def close(self) -> None:
        os.close(self._fd)


class Presence:
    """A lock that each process holds in shared mode while it has the cache open. A process that gets the lock
    exclusively is alone."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def alone(self) -> bool:
        """Returns True if no other process has the cache open. The caller holds the index lock, and calls
        `share` afterwards."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Takes the lock in shared mode."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def close(self) -> None:
        """Closes the lock; the second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _flock64(kind: int, start: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, 1, 0)


class ByteLocks:
    """Exclusive locks on single bytes of an empty file: one for each number, none of them on disk.

    Open-file-description locks (fcntl(2)): unlike POSIX locks they are not lost when another descriptor of
    the file is closed, and not shared between two caches in one process.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def take(self, number: int) -> bool:
        """Locks `number` (0 to 2^63 - 2). Returns False if another process has locked it."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock64(fcntl.F_WRLCK, number))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def drop(self, number: int) -> None:
        """Unlocks `number`."""
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock64(fcntl.F_UNLCK, number))

    def taken(self, number: int) -> bool:
        """Returns True if another process holds `number`."""
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _flock64(fcntl.F_WRLCK, number))
        return int.from_bytes(answer[:2], sys.byteorder) != fcntl.F_UNLCK

    def close(self) -> None:
        os.close(self._fd)
