"""Numbered places that are taken and freed."""

from collections import deque
from collections.abc import Iterable


class Slots:
    """A set of numbers, each of which one holder has at a time. Thread-safe; every method returns at once."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._free = deque(numbers)

    def take(self) -> int | None:
        """Takes a number that nobody has: of several, the one that has been free for longest. Returns None if
        all are taken."""
        try:
            return self._free.popleft()
        except IndexError:
            return None

    def take_many(self, count: int) -> list[int]:
        """Takes up to `count` numbers, as `take` does."""
        found: list[int] = []
        while len(found) < count and (number := self.take()) is not None:
            found.append(number)
        return found

    def free(self, number: int) -> None:
        """Frees a number, so that another holder may take it."""
        self._free.append(number)
