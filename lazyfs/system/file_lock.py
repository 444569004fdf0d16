"""flock(2) with a deadline: the blocking call would wait for ever for a process that was stopped."""

import fcntl
import time

_PAUSE = 0.02
"""Seconds between two tries. Holders keep the lock for milliseconds."""


def lock_within(descriptor: int, seconds: float) -> bool:
    """Locks the file exclusively and returns True. Returns False if another process still holds the lock
    after `seconds`. Tries at least once; the lock ends when `descriptor` is closed. Raises OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(_PAUSE)
