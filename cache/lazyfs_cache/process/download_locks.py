"""One download per value, across threads and processes, as long as its holder is quick.

A download lock is a byte-range lock, with no file content, which the kernel drops when its holder dies. A
holder that is stopped or slow delays others by two seconds at most: a key has two lanes, each with a lock,
and a caller that has waited a second for the first lane asks for the second one (`policy.waiting`). While the
cache is off, and where the disk fails, every caller gets a lock that locks nothing.
"""

import hashlib
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from lazyfs_cache.policy import waiting
from lazyfs_cache.policy.waiting import Polling
from lazyfs_cache.process.health import Health
from lazyfs_cache.process.locks import ByteLocks


class DownloadLock:
    """The right to bring one value here. Its holder looks for the value again, and downloads it if it is
    missing."""

    def __init__(self, locks: "DownloadLocks | None" = None, number: int = 0) -> None:
        """`number`: that of the locked byte. Without `locks` nothing is locked, because there is no cache, or
        the caller has waited long enough."""
        self._locks = locks
        self._number = number

    def release(self) -> None:
        """Gives the lock up, so that waiting callers go on; the second call does nothing."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.release(self._number)

    def __enter__(self) -> "DownloadLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _number(key: bytes, lane: int) -> int:
    """Returns the byte that stands for a lane of a key. Two keys may have the same byte (probability 2^-62):
    then they only wait for each other needlessly."""
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 2) + (lane << 62)


class DownloadLocks:
    """The download locks of one process on one cache. Thread-safe."""

    def __init__(self, path: str, health: Health) -> None:
        """Opens the file at `path`, whose bytes are locked. Raises OSError if it cannot be opened."""
        self._locks = ByteLocks(path)
        self._health = health
        self._mine: dict[int, threading.Event | None] = {}
        """The event of the end of each lock that this process holds, by the lock's number; None until a
        thread waits for the lock."""
        self._guard = threading.Lock()

    def take(self, key: bytes, waited: float) -> DownloadLock | None:
        """Takes the lock for a caller that has waited `waited` seconds for it. Returns None if another thread
        or process has it. Never waits."""
        lane = waiting.lane(waited)
        if lane is not None and self._health.off is None:
            try:
                with self._guard:
                    return self._take(_number(key, lane))
            except OSError as error:
                self._health.fail(error)
        return DownloadLock()

    def take_many(self, keys: Sequence[bytes]) -> list[DownloadLock | None]:
        """Takes the locks of several keys, for a caller that has not waited for any. Returns for each key
        what `take` would return."""
        taken: list[DownloadLock | None] = []
        if self._health.off is None:
            try:
                with self._guard:
                    for key in keys:
                        taken.append(self._take(_number(key, 0)))  # noqa: PERF401 (what was taken before an error)
            except OSError as error:
                for lock in taken:
                    if lock is not None:
                        lock.release()
                self._health.fail(error)
            else:
                return taken
        return [DownloadLock() for _ in keys]

    def _take(self, number: int) -> DownloadLock | None:
        if number in self._mine or not self._locks.take(number):
            return None
        self._mine[number] = None
        return DownloadLock(self, number)

    def release(self, number: int) -> None:
        """Releases a lock; does nothing if this process does not hold it."""
        with self._guard:
            if number not in self._mine:
                return
            ended = self._mine.pop(number)
            self._locks.drop(number)
        if ended is not None:
            ended.set()

    def wait(self, key: bytes, timeout: float, waited: float) -> bool:
        """Waits for a lock that `take` did not get. Returns True if it ended within `timeout` seconds, by
        release or by death, or if it is time to ask for the next lane.

        Within the process the waiter is woken; another process's lock is polled.
        """
        lane = waiting.lane(waited)
        if lane is not None and self._health.off is None:
            try:
                return self._wait(_number(key, lane), timeout, waiting.lane_left(waited))
            except OSError as error:
                self._health.fail(error)
        return True

    def _wait(self, number: int, timeout: float, lane_left: float) -> bool:
        """Waits for the lock of this number. Returns True if it ended within `timeout` seconds, or if it is
        time to ask for the next lane. `lane_left`: seconds until it is."""
        polling = Polling(time.monotonic() + min(timeout, lane_left))
        while True:
            with self._guard:
                ended = self._ended(number)
                if ended is None and not self._locks.taken(number):
                    return True
            now = time.monotonic()
            if polling.left(now) <= 0:
                return lane_left <= timeout
            if ended is not None:
                ended.wait(polling.left(now))
            else:
                time.sleep(polling.pause(now))

    def _ended(self, number: int) -> threading.Event | None:
        """Returns the event that is set at the end of this process's lock; None if this process does not hold
        it."""
        if number not in self._mine:
            return None
        event = self._mine[number]
        if event is None:
            event = self._mine[number] = threading.Event()
        return event

    def abandon(self) -> None:
        """Leaves the locks to the parent process, which keeps them until its end. Called in a forked
        child."""
        self._guard = threading.Lock()
        self._mine = {}
        self._locks.close()

    def close(self) -> None:
        with self._guard:
            for ended in self._mine.values():
                if ended is not None:
                    ended.set()
            self._mine.clear()
        self._locks.close()
