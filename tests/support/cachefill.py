"""Values computed from their keys, so that a test can check any of them, and processes that fill a cache."""

import hashlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable

from lazyfs_cache import Cache
from lazyfs_cache.index.faults import IndexDamaged

SIZES = (0, 100, 4_000, 30_000, 65_536, 100_000, 700_000)


def key_of(number: int) -> bytes:
    return hashlib.sha256(b"key %d" % number).digest()


def value_of(key: bytes) -> bytes:
    size = SIZES[key[0] % len(SIZES)]
    return (hashlib.sha512(key).digest() * (size // 64 + 1))[:size]


def wrong_values(cache: Cache) -> list[bytes]:
    """Returns the keys of entries for which the cache serves wrong bytes."""
    served = ((key, cache.get(key)) for key, _ in list(cache.entries()))
    return [key for key, value in served if value is not None and value != value_of(key)]


class Child:
    """A forked process that runs `work(ready)` until it ends or is killed. Fork while no cache is open."""

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        self._pipe, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work(lambda: _tell(write_end))
                code = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(write_end)

    def wait_until_ready(self) -> None:
        """Waits until the process has called `ready`. Raises AssertionError if the process ends first."""
        assert os.read(self._pipe, 1), "the process ended before it was ready"

    def kill(self, after: float = 0) -> None:
        """Sends SIGKILL after `after` seconds, and waits for the end. Raises AssertionError if the process
        had ended by itself."""
        ended = select.select([self._pipe], [], [], after)[0]
        os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self._pipe)
        assert not ended, f"the process had ended with {os.waitstatus_to_exitcode(status)}"

    def join(self) -> int:
        """Waits for the end of the process; returns its exit code."""
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _tell(write_end: int) -> None:
    os.write(write_end, b".")


def lose_index(cache: Cache) -> None:
    """Makes the cache find its index damaged, so that it sets the index aside."""
    with cache._shared.transaction():
        raise IndexDamaged("by this test")
