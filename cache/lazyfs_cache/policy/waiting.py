"""Waiting for other processes: for how long, and how often to look. Times are in seconds,
on any clock that only goes forward.

The holder of a download lock may be stopped, slow, or on a bad line. So a key has LANES, each of which one
process holds: a waiter asks for the first, after LANE_PATIENCE for the second, and after that needs none. Of
many waiters, one downloads beside a slow holder after a second, and the others find the value; where
both are slow they all download after two.
"""

LANES = 2

LANE_PATIENCE = 1.0
"""Seconds to wait for one lane."""

BRIEFLY = 0.1
"""Seconds: ten of the longest transactions."""

_IN_VAIN = 2
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02
_GROWTH = 1.5


def lane(waited: float) -> int | None:
    """The lane to ask for after `waited` seconds; None when it is time to download without."""
    number = int(waited / LANE_PATIENCE)
    return number if number < LANES else None


def lane_left(waited: float) -> float:
    """Seconds until it is time to ask for the next lane; 0 after the last one."""
    number = lane(waited)
    return 0.0 if number is None else max((number + 1) * LANE_PATIENCE - waited, 0.0)


class Patience:
    """With a lock whose holder may be stopped: it is waited for in full until that was in vain twice in a
    row, then BRIEFLY, until it is got again. So a stopped holder delays a few callers, and not each of
    them."""

    def __init__(self) -> None:
        self._in_vain = 0

    def allowed(self, timeout: float) -> float:
        """Seconds to wait for the lock where the caller would wait `timeout`."""
        return timeout if self._in_vain < _IN_VAIN else min(timeout, BRIEFLY)

    def got(self) -> None:
        self._in_vain = 0

    def missed(self, waited: float) -> None:
        """The lock was not got in `waited` seconds. A glance says nothing: the holder may be busy."""
        if waited > BRIEFLY:
            self._in_vain += 1


class Polling:
    """One wait, which ends at `deadline`: pauses of 1 to 20 ms, each longer than the one before."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = _FIRST_PAUSE

    def left(self, now: float) -> float:
        """Seconds until the deadline; 0 or less when it is over."""
        return self._deadline - now

    def pause(self, now: float) -> float:
        """Seconds to sleep before the next look; never beyond the deadline."""
        pause = min(self._pause, max(self.left(now), 0))
        self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)
        return pause
