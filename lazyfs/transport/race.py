"""An attempt and its rival, a second attempt beside it: the first to bring the bytes ends the other.

The first attempt runs in the caller's thread. Its guard calls `poll` in every slice of waiting; so a rival is
started, and its result noticed, with no other thread than the rival's own. A rival is a daemon thread that
keeps the same deadline. When its result is no longer needed, it ends within `guard.SLICE` seconds. At most
`RIVALS` rivals run in a process.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from lazyfs.core.errors import LazyfsError
from lazyfs.transport.fetcher import GivenUp

log = logging.getLogger(__name__)

RIVALS = 16
_slots = threading.BoundedSemaphore(RIVALS)

T = TypeVar("T")


class Overtaken(BaseException):
    """Raised out of the first attempt when the rival has won. Never leaves this package."""


class Beaten(BaseException):
    """Raised out of the rival when its result is no longer needed. Never leaves this package."""


class Race(Generic[T]):
    """At most one rival beside one attempt. Only the rival's work runs in another thread."""

    def __init__(
        self, after: float, enter: Callable[[], Callable[[Callable[[], None]], T | None] | None]
    ) -> None:
        """`enter` is called after `after` seconds and returns the rival, or None for no rival. A rival is a
        function. It takes a check, which it must call while it waits; it returns its result, or None if it
        failed."""
        self._start_at = time.monotonic() + after
        self._enter: Callable[[], Callable[[Callable[[], None]], T | None] | None] | None = enter
        self._ended: threading.Event | None = None  # made with the rival: most races have none
        self._over = False
        self._running = False
        self._result: T | None = None

    def poll(self) -> None:
        """Starts the rival when it is time; raises Overtaken when it has won."""
        if self._enter is not None and time.monotonic() >= self._start_at:
            enter, self._enter = self._enter, None
            if _slots.acquire(blocking=False):
                self._begin(enter)
        if self._result is not None:
            raise Overtaken

    def _begin(self, enter: Callable[[], Callable[[Callable[[], None]], T | None] | None]) -> None:
        rival = enter()
        if rival is None:
            _slots.release()
            return
        self._ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(rival,), name="hedge", daemon=True)
        try:
            thread.start()
            self._running = True
        except RuntimeError as error:  # the node has no threads left; `wait` would wait for this one for ever
            _slots.release()
            log.warning("no thread for a hedge: %s", error)

    def _run(self, rival: Callable[[Callable[[], None]], T | None]) -> None:
        try:
            self._result = rival(self._check)
        except (Beaten, GivenUp, LazyfsError):
            pass
        except Exception:  # the first attempt goes on without a rival
            log.exception("a hedge")
        finally:
            _slots.release()
            assert self._ended is not None
            self._ended.set()

    def _check(self) -> None:
        if self._over:
            raise Beaten

    def finish(self) -> None:
        """Ends the rival, because the first attempt has brought the bytes or no reader waits any more."""
        self._over = True

    def wait(self, check: Callable[[], None]) -> T | None:
        """Waits for the rival, if one is running, after the first attempt has failed. Returns the rival's
        result; None without one."""
        self._enter = None
        while self._ended is not None and self._running and not self._ended.wait(0.05):
            check()
        return self._result
