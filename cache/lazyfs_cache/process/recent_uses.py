"""What readers leave for the next change: which values were used, and which were found wrong.

Readers only add; they never wait. A use that is lost costs recency, nothing else.
"""

from collections import deque
from collections.abc import Iterable
from threading import Event

MOST = 1 << 16
"""Values whose uses are remembered until they are written; beyond that a use is forgotten."""

BATCH = 1 << 14
"""Used values that wake the upkeep thread at once; fewer wait for company, so that a value read over and over
is written once."""


class Uses:
    """Filled by any thread, emptied by the one that holds the change lock."""

    def __init__(self, wake: Event) -> None:
        self._wake = wake
        self._used: dict[bytes, None] = {}  # in the order of last use
        self._taken: deque[bytes] = deque()  # to be written, by whoever holds the change lock
        self._damaged: deque[bytes] = deque()
        self.last = b""
        """The value used last: using it again changes nothing."""

    def touch(self, key: bytes) -> None:
        self.last = key
        used = self._used
        used.pop(key, None)
        count = len(used)
        if count < MOST:
            used[key] = None
            if count in (0, BATCH):
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
        return bool(self._damaged) or len(self._used) >= BATCH

    @property
    def left(self) -> bool:
        """Whether the last change had more to write than it could."""
        return bool(self._taken or self._damaged)

    def take_used(self, most: int) -> list[bytes]:
        """Values used, in the order of last use: the earliest `most` of them. Hold the change lock."""
        self.last = b""
        used, self._used = self._used, {}
        # A reader that still has the old dict may add to it: list() is one step for the interpreter.
        self._taken.extend(list(used))
        return [self._taken.popleft() for _ in range(min(most, len(self._taken)))]

    def take_damaged(self) -> list[bytes]:
        return [self._damaged.popleft() for _ in range(len(self._damaged))]

    def return_damaged(self, keys: Iterable[bytes]) -> None:
        """The change that took them failed."""
        self._damaged.extend(keys)
