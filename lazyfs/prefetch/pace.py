"""A limit on the rate at which a job fetches. Pure: the caller passes the time."""


class Pace:
    """Spaces out the beginnings of fetches so that their bytes come at a given rate on average.

    A job that was held up, by readers or by a slow line, does not catch up: the limit holds in every second.
    """

    def __init__(self, bytes_per_second: float) -> None:
        """`bytes_per_second`: more than 0."""
        self._rate = bytes_per_second
        self._free = float("-inf")
        """The time from which the next fetch may begin."""

    def wait(self, size: int, now: float) -> float:
        """Reserves the time that a fetch of `size` bytes takes at the given rate. Returns the seconds to wait
        before the fetch begins."""
        begins = max(self._free, now)
        self._free = begins + size / self._rate
        return begins - now
