"""The number of requests that are under way to one bucket at the same time.

A bucket that is asked for too much answers SlowDown (503). Then the number is halved, once for all requests
that were under way together. It grows again by one with each round of requests that went well.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 32
"""The largest number of requests under way. With round trips of 50 ms, 32 side by side are 640 a second, as
many as two cores can hash and sign."""


class Pace:
    """Limits how many threads make requests at the same time. Thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._limit = most
        self._under_way = 0
        self._well = 0
        self._slowed = 0
        """The number of times that the limit was halved. A request that began before the last of these times
        does not halve it again."""

    @property
    def limit(self) -> int:
        """The number of requests that may be under way now."""
        return self._limit

    @contextmanager
    def turn(self) -> Iterator[int]:
        """Waits for a turn and holds it; yields the ticket to pass to `slow_down`."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self._limit)
            self._under_way += 1
            ticket = self._slowed
        try:
            yield ticket
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def slow_down(self, ticket: int) -> None:
        """Halves the limit, unless it was halved since the request of this ticket began."""
        with self._changed:
            if ticket == self._slowed:
                self._slowed += 1
                self._limit = max(1, self._limit // 2)
                self._well = 0

    def went_well(self) -> None:
        """Counts an answered request. Raises the limit by one once `limit` requests were answered since its
        last change."""
        with self._changed:
            self._well += 1
            if self._limit < self._most and self._well >= self._limit:
                self._limit += 1
                self._well = 0
                self._changed.notify()
