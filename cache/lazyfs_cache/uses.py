"""What readers leave for the next change: which values were used, and which were found wrong.

Readers only append; they never wait. A use that is lost (the oldest are, beyond TOUCHES) costs recency.
"""

from collections import deque
from collections.abc import Iterable
from threading import Event
from typing import TypeVar

T = TypeVar("T")

TOUCHES = 16384
"""Uses remembered until they are written to the index."""

BATCH = 1024
"""Uses that wake the upkeep thread at once; fewer wait a moment for company."""


class Uses:
    """Filled by any thread, emptied by the one that holds the change lock."""

    def __init__(self, wake: Event) -> None:
        self._wake = wake
        self._touched: deque[bytes] = deque(maxlen=TOUCHES)
        self._damaged: deque[bytes] = deque()
        self.last = b""
        """The value used last: using it again changes nothing."""

    def touch(self, key: bytes) -> None:
        self.last = key
        touched = self._touched
        touched.append(key)
        if len(touched) in (1, BATCH):
            self._wake.set()

    def damaged(self, key: bytes) -> None:
        """The value must go."""
        self._damaged.append(key)
        self._wake.set()

    def must_go(self, key: bytes) -> bool:
        """Whether the value was found damaged and is still to be removed."""
        return key in self._damaged

    @property
    def urgent(self) -> bool:
        return bool(self._damaged) or len(self._touched) >= BATCH

    def take_touched(self) -> list[bytes]:
        """Every value used, once, in the order of last use."""
        self.last = b""
        latest_first = dict.fromkeys(reversed(_take(self._touched)))
        return list(reversed(latest_first))

    def take_damaged(self) -> list[bytes]:
        return _take(self._damaged)

    def return_damaged(self, keys: Iterable[bytes]) -> None:
        """The change that took them failed."""
        self._damaged.extend(keys)


def _take(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(len(queue))]
