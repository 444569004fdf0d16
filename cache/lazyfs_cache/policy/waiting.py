"""How long a waiter sleeps between looks at a lock that another process holds. Times are in seconds, on any
clock that only goes forward."""

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02
_GROWTH = 1.5


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
