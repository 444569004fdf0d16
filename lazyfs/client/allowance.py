"""The bytes that all repositories of a mount together may have under way.

Each object is held in memory, as it is stored, until it is verified. If each repository had a bound of its
own, a node with many repositories would hold a multiple of that bound.
"""

from collections.abc import Callable
from typing import Final

MOST: Final = 32 << 20
"""Default for the largest number of bytes under way, by the estimates of `StoredSizes`; less if the mount's
memory is smaller."""


class Allowance:
    """Bytes that are taken and given back. Not thread-safe: it belongs to one trio run.

    A caller that has nothing under way may always take bytes: one repository whose server is silent cannot
    stop the others.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.taken = 0
        self._waiting: dict[Callable[[], None], None] = {}

    def take(self, size: int, go_on: Callable[[], None], *, alone: bool) -> bool:
        """Takes `size` bytes and returns True if as many are left, or if the caller has no other bytes
        (`alone`). Otherwise returns False, and calls `go_on` once when bytes have been given back."""
        if alone or self.taken + size <= self.most:
            self.taken += size
            return True
        self._waiting[go_on] = None
        return False

    def give_back(self, size: int) -> None:
        """Gives bytes back, then calls the `go_on` of each waiting caller, the longest waiting first."""
        self.taken -= size
        waiting, self._waiting = self._waiting, {}
        for go_on in waiting:
            go_on()
