"""The bytes that all repositories of a mount together may have under way.

Each object is held in memory until it is verified; a node with many repositories would hold as many times
what one may."""

from collections.abc import Callable
from typing import Final

MOST: Final = 32 << 20
"""Plaintext bytes, unless the mount's memory is smaller."""


class Allowance:
    """Bytes that are taken and given back. Not thread-safe: it belongs to one trio run.

    Who has nothing under way may always take: a repository whose server is silent cannot stop the others.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.taken = 0
        self._waiting: dict[Callable[[], None], None] = {}

    def take(self, size: int, go_on: Callable[[], None], *, alone: bool) -> bool:
        """Takes bytes if there are so many, or if the caller has none (`alone`). Otherwise returns False, and
        calls `go_on` once when some have been given back."""
        if alone or self.taken + size <= self.most:
            self.taken += size
            return True
        self._waiting[go_on] = None
        return False

    def give_back(self, size: int) -> None:
        """Gives bytes back, and lets those go on that wait for some, the longest waiting first."""
        self.taken -= size
        waiting, self._waiting = self._waiting, {}
        for go_on in waiting:
            go_on()
