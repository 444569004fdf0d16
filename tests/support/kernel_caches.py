"""The kernel's caches of names and pages, which all tests of the machine share.

A test that drops them would make a test beside it fail that counts on them. So both take a lock.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.until import until

_SECONDS = 100
"""The longest wait for tests that count on the caches; they do so for seconds."""


@contextmanager
def kept_kernel_caches() -> Iterator[None]:
    """During the block, no test drops the caches."""
    with _locked(fcntl.LOCK_SH):
        yield


def drop_kernel_caches(what: int) -> None:
    """Drops the caches of all filesystems. 1: pages, 2: names and inodes, 3: both."""
    with _locked(fcntl.LOCK_EX):
        Path("/proc/sys/vm/drop_caches").write_text(str(what))


@contextmanager
def _locked(how: int) -> Iterator[None]:
    path = os.path.join(tempfile.gettempdir(), f"lazyfs-test-kernel-caches-{os.geteuid()}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        until(lambda: _lock(descriptor, how), _SECONDS)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
