"""One download per value, across threads and processes. Nothing is written: a claim is a byte-range lock."""

import hashlib
import threading
import time
from types import TracebackType

from lazyfs_cache.process.locks import ByteLocks


class Claim:
    """The right to bring one value here; look again for the value after getting it, then fetch."""

    def __init__(self, claims: "Claims | None" = None, key: bytes = b"") -> None:
        self._claims = claims
        self._key = key

    def release(self) -> None:
        """Let the waiters go on. Does nothing the second time."""
        claims, self._claims = self._claims, None
        if claims is not None:
            claims.release(self._key)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _number(key: bytes) -> int:
    """The byte that stands for a key; two keys that share one (2^-62) only wait for each other needlessly."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 2


class Claims:
    """The claims of one process on one cache."""

    def __init__(self, path: str) -> None:
        self._locks = ByteLocks(path)
        self._mine: dict[int, threading.Event] = {}
        self._guard = threading.Lock()

    def claim(self, key: bytes) -> Claim | None:
        """None if another thread or process has the claim; never waits."""
        number = _number(key)
        with self._guard:
            if number in self._mine or not self._locks.take(number):
                return None
            self._mine[number] = threading.Event()
        return Claim(self, key)

    def release(self, key: bytes) -> None:
        number = _number(key)
        with self._guard:
            ended = self._mine.pop(number, None)
            if ended is not None:
                self._locks.drop(number)
                ended.set()

    def wait(self, key: bytes, timeout: float) -> bool:
        """Whether the claim on `key` ended within `timeout` seconds, by release or by death.

        Within the process the waiter is woken; another process's claim is polled, at 1 to 20 ms.
        """
        number = _number(key)
        deadline = time.monotonic() + timeout
        pause = 0.001
        while True:
            with self._guard:
                ended = self._mine.get(number)
                if ended is None and not self._locks.taken(number):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if ended is not None:
                ended.wait(left)
            else:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.02)

    def abandon(self) -> None:
        """This is a forked child: the claims stay its parent's, for as long as that lives."""
        self._guard = threading.Lock()
        self._mine = {}
        self._locks.close()

    def close(self) -> None:
        with self._guard:
            for ended in self._mine.values():
                ended.set()
            self._mine.clear()
        self._locks.close()
