"""Threads of one owner, and a way to wait for the end of all their work."""

import threading
from collections.abc import Callable

from trio.lowlevel import start_thread_soon


class ThreadGroup:
    """Runs work in threads, and waits for its end. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0

    def start(self, work: Callable[[], None], ended: Callable[[], None]) -> None:
        """Calls `work` and then `ended` in a thread from trio's cache of threads. Neither may raise. Raises
        RuntimeError if the node has no threads left."""

        def deliver(_: object) -> None:
            try:
                ended()
            finally:
                self._count(-1)

        self._count(1)
        try:
            start_thread_soon(work, deliver)
        except BaseException:
            self._count(-1)
            raise

    def _count(self, more: int) -> None:
        with self._changed:
            self._working += more
            if not self._working:
                self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Waits until no work is under way, for `seconds` at most. Returns True if none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._working, seconds)
