"""Numbers in rising order, so that one that was given out is not soon given out again.

The last one lies in memory that outlives the process. So a successor gives out none that its predecessor has
given out, not even one that the journal lacks: the kernel may still hold it for a file. Such a number then
leads to no file, but never to another one.
"""

from collections.abc import Callable


class RisingNumbers:
    """The numbers from 1 to `most`. After the largest one they begin anew, with those that are not in use."""

    def __init__(self, most: int, last: memoryview | None = None) -> None:
        """`last`: one word (format "Q") with the number that was given out last, 0 if there was none. By
        default it lies in this process, which then has no successor."""
        self._most = most
        self._last = memoryview(bytearray(8)).cast("Q") if last is None else last

    def next(self, is_used: Callable[[int], bool]) -> int:
        """Returns a number that is not in use. At least one must be free."""
        number = self._last[0] % self._most + 1
        while is_used(number):
            number = number % self._most + 1
        self._last[0] = number
        return number

    def restore(self, number: int) -> None:
        """Notes a number that an earlier process gave out. The memory of an older version of lazyfs does not
        have it."""
        self._last[0] = max(self._last[0], number)
