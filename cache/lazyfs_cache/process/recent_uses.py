"""Uses of values that wait to be written to the index by the next transaction.

Readers only add to them and never wait. A use that is lost costs recency, nothing else.
"""

from collections import deque
from threading import Event

MOST = 1 << 16
"""The largest number of values whose uses are remembered until they are written; beyond it further uses are
forgotten."""

BATCH = 1 << 14
"""The number of used values at which the upkeep thread writes their uses at once. With fewer, it waits for
more, so that a value read over and over is written once."""


class RecentUses:
    """The values used last. Any thread adds them; the thread that holds the index lock takes them."""

    def __init__(self, wake: Event) -> None:
        self._wake = wake
        self._used: dict[bytes, None] = {}  # in the order of last use
        self._taken: deque[bytes] = deque()  # those to be written by the thread that holds the index lock
        self.last = b""
        """The value used last: `Cache` need not `add` it once more, because its place in the order is the
        last already."""

    def add(self, key: bytes) -> None:
        """Notes that the value was used."""
        self.last = key
        used = self._used
        used.pop(key, None)
        count = len(used)
        if count < MOST:
            used[key] = None
            if count in (0, BATCH):
                self._wake.set()

    @property
    def many(self) -> bool:
        """True if there are enough uses to write them without waiting for more."""
        return len(self._used) >= BATCH

    @property
    def left(self) -> bool:
        """True if the last transaction had more uses than it could write."""
        return bool(self._taken)

    def take(self, most: int) -> list[bytes]:
        """Takes at most `most` values, and returns them in the order of their last use, the least recently
        used first. The caller holds the index lock."""
        used, self._used = self._used, {}
        # A reader that still has the old dict may add to it: list() is one step for the interpreter. If it
        # adds too late, this use is lost, but not the next one: so `last` is forgotten after the exchange.
        self.last = b""
        self._taken.extend(list(used))
        return [self._taken.popleft() for _ in range(min(most, len(self._taken)))]
