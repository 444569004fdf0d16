"""Values on their way in: their slots in the journal, and the values that wait for the next transaction."""

import threading
from collections import deque
from typing import NamedTuple

from lazyfs_cache.files.journal import SLOTS
from lazyfs_cache.policy.slots import Slots


class Arrived(NamedTuple):
    """A value whose file is in data/ and whose entry is not in the index yet."""

    slot: int
    key: bytes
    size: int
    held: int
    """The upper bound of the value's bytes, with which its space was reserved."""
    occupied: int
    """The bytes of disk that the value's file occupies."""
    tenant: bytes = b""
    """The name of the tenant that the value belongs to; empty for none."""


class Arrivals:
    """The arrivals of one process in one generation of the index. Thread-safe; every method returns at
    once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ended = False
        self.slots = Slots(range(SLOTS))
        """Journal slots: one is taken for a value on its way, and freed when the value is entered into the
        index or abandoned."""
        self._waiting: deque[Arrived] = deque()

    def add(self, value: Arrived) -> bool:
        """Adds a value, which then waits for the next transaction. Returns False, and adds nothing, if the
        generation of the index has ended: the new index has no space for the value."""
        with self._guard:
            if not self._ended:
                self._waiting.append(value)
            return not self._ended

    @property
    def waiting(self) -> bool:
        """True if there is a value to enter into the index."""
        return bool(self._waiting)

    @property
    def due(self) -> bool:
        """True if it is time for a transaction: waiting values take half of the journal's slots."""
        return len(self._waiting) >= SLOTS // 2

    def take(self) -> list[Arrived]:
        """Takes all waiting values, and returns them, the earliest first."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def put_back(self, values: list[Arrived]) -> None:
        """Puts back values from `take` because their transaction was not committed: they wait again."""
        self._waiting.extendleft(reversed(values))

    def end(self) -> list[Arrived]:
        """Ends this generation of the index: returns the values that waited; `add` takes no more."""
        with self._guard:
            self._ended = True
            return self.take()
