"""The limits of one attempt. Every wait for the network asks the guard, at least every SLICE seconds.

The timeout of the library `requests` counts from one received byte to the next, so a server that trickles
never exceeds it; and a thread that waits in recv() does not notice cancellation. So every socket here waits
in short slices and asks the guard between them.
"""

import threading
import time
from collections.abc import Callable

import msgspec

from lazyfs.core.chain.faults import AttemptFailed, Fault

SLICE = 0.1
"""The longest wait in one system call, in seconds. A cancelled read therefore returns at most this much
later."""


MOST_HEAD = 128 << 10
"""The largest number of bytes of an answer before its body. Interim answers (100, 103) count, because a
server may send them without end."""


class Limits(msgspec.Struct, frozen=True):
    """The limits of one attempt's cost. All times in seconds."""

    connect: float = 3.0
    """The time for name, connection and TLS together; a machine in the same site answers in milliseconds."""
    silence: float = 10.0
    """The time from the request until the first byte of the answer."""
    min_rate: int = 1024
    """The minimum rate in bytes per second, measured over each window of `rate_window` once the answer has
    begun."""
    rate_window: float = 5.0

    def hurried(self, patience: float | None) -> "Limits":
        """Returns these limits, with each limit on a wait without progress lowered to `patience`."""
        if patience is None or patience >= max(self.silence, self.rate_window):
            return self
        return Limits(
            self.connect, min(self.silence, patience), self.min_rate, min(self.rate_window, patience)
        )


class Guard:
    """Counts the bytes and the time of one attempt. Belongs to one thread."""

    def __init__(self, deadline: float, limits: Limits, check_cancelled: Callable[[], None]) -> None:
        """`deadline` is on time.monotonic()'s clock."""
        self._limits = limits
        self._check_cancelled = check_cancelled
        self.deadline = deadline
        self.started = time.monotonic()
        self.connected = False
        """True if this attempt opened its connection itself (not one kept alive)."""
        self.first_byte: float | None = None
        self.head_bytes: int | None = 0
        """Bytes received so far that are not the body's; None once the caller cannot tell them from the
        body's."""
        self._silent_until = self.started + limits.silence
        self._window_start = 0.0
        self._window_bytes = 0

    def check(self) -> None:
        """Raises AttemptFailed when the attempt has used up a limit, and the exceptions of the caller's
        check."""
        self._check_cancelled()
        now = time.monotonic()
        if self.first_byte is None:
            if now >= min(self._silent_until, self.deadline):
                raise AttemptFailed(Fault.SILENT, f"{now - self.started:.1f} s without a byte")
            return
        if now >= self.deadline:
            raise AttemptFailed(Fault.SLOW, f"unfinished after {now - self.started:.1f} s")
        if now - self._window_start >= self._limits.rate_window:
            rate = self._window_bytes / (now - self._window_start)
            if rate < self._limits.min_rate:
                raise AttemptFailed(Fault.SLOW, f"{rate:.0f} B/s, under {self._limits.min_rate}")
            self._window_start, self._window_bytes = now, 0

    def received(self, count: int) -> None:
        """Counts `count` received bytes, and raises as `check` does, so that a steady trickle is cut too."""
        self.count(count)
        self.check()

    def count(self, count: int, *, head: bool = True) -> None:
        """Counts `count` received bytes; with `head`, as bytes before the body. Does not check the limits of
        time: for callers that call `check` often enough themselves. Raises AttemptFailed for too many bytes
        before the body."""
        if self.first_byte is None and count:
            self.first_byte = self._window_start = time.monotonic()
        self._window_bytes += count
        if head:
            self._count_head(count)

    def tunnelled(self, count: int) -> None:
        """Counts `count` received bytes of a proxy's answer to CONNECT, which are no part of the wanted
        answer. Raises as `check` does, and AttemptFailed if they are too many."""
        self._count_head(count)
        self.check()

    def _count_head(self, count: int) -> None:
        if self.head_bytes is not None:
            self.head_bytes += count
            if self.head_bytes > MOST_HEAD:
                raise AttemptFailed(Fault.GARBLED, f"more than {MOST_HEAD} bytes before the body")

    def connect_deadline(self) -> float:
        """Returns the time by which a connection must be open."""
        return min(self.started + self._limits.connect, self.deadline)


_current = threading.local()


class guarding:  # noqa: N801 (a context manager, used like a function)
    """A context manager: within its block, this thread's connections ask the given guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __enter__(self) -> Guard:
        _current.guard = self._guard
        return self._guard

    def __exit__(self, *_: object) -> None:
        del _current.guard


def current() -> Guard:
    """Returns the guard of this thread's attempt."""
    guard = _current.guard
    assert isinstance(guard, Guard)
    return guard
