"""Waiting for other processes: how long, and how often to look. Times are in seconds on any clock that only
goes forward.

The holder of a download lock may be stopped, slow, or on a bad line. So a key has LANES lanes, and each lane
has one holder at a time. A waiter asks for the first lane at once and for the second after LANE_PATIENCE;
after the same time again, it downloads without a lane. Of many waiters, one downloads beside a slow holder
after a second, and the others find its value; if both are slow, all the others download after two seconds.
"""

LANES = 2

LANE_PATIENCE = 1.0
"""Seconds that a waiter waits for one lane before it asks for the next."""

BRIEFLY = 0.1
"""Seconds of a brief wait: as long as ten of the longest transactions."""

_IN_VAIN = 2
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02
_GROWTH = 1.5


def lane(waited: float) -> int | None:
    """Returns the lane to ask for after `waited` seconds; None when it is time to download without one."""
    number = int(waited / LANE_PATIENCE)
    return number if number < LANES else None


def lane_left(waited: float) -> float:
    """Returns the seconds until it is time to ask for the next lane; 0 after the last one."""
    number = lane(waited)
    return 0.0 if number is None else max((number + 1) * LANE_PATIENCE - waited, 0.0)


class Patience:
    """Patience with a lock whose holder may be stopped. Callers wait their full time until two waits in a row
    were in vain. From then on they wait BRIEFLY, until one gets the lock again. So a stopped holder delays a
    few callers, and not each of them."""

    def __init__(self) -> None:
        self._in_vain = 0

    def allowed(self, timeout: float) -> float:
        """Returns the seconds to wait for the lock if the caller would wait `timeout`."""
        return timeout if self._in_vain < _IN_VAIN else min(timeout, BRIEFLY)

    def got(self) -> None:
        self._in_vain = 0

    def missed(self, waited: float) -> None:
        """Notes that the caller waited `waited` seconds for the lock in vain. A very short wait does not
        count: the holder may be busy."""
        if waited > BRIEFLY:
            self._in_vain += 1


class Polling:
    """One wait, which ends at `deadline`: pauses of 1 to 20 ms, each longer than the one before."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = _FIRST_PAUSE

    def left(self, now: float) -> float:
        """Returns the seconds until the deadline; 0 or less when it is over."""
        return self._deadline - now

    def pause(self, now: float) -> float:
        """Returns the seconds to sleep before the next look; never beyond the deadline."""
        pause = min(self._pause, max(self.left(now), 0))
        self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)
        return pause
