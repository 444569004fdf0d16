"""Values whose right bytes anyone can tell from their keys, and processes that fill a cache with them."""

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
    """The keys of entries that are served with other bytes than theirs."""
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
        """Until the process has called `ready`."""
        assert os.read(self._pipe, 1), "the process ended before it was ready"

    def kill(self, after: float = 0) -> None:
        """SIGKILL after so many seconds, and wait until it is gone; it must not have ended by itself."""
        ended = select.select([self._pipe], [], [], after)[0]
        os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self._pipe)
        assert not ended, f"the process had ended with {os.waitstatus_to_exitcode(status)}"

    def join(self) -> int:
        """Its exit code."""
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _tell(write_end: int) -> None:
    os.write(write_end, b".")


def lose_index(cache: Cache) -> None:
    """The index is found damaged, and set aside."""
    with cache._shared.transaction():
        raise IndexDamaged("by this test")
