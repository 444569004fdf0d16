"""A bound on the requests under way at one time, and on their bytes, which are held in memory until
verified."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from lazyfs.client.allowance import Allowance

T = TypeVar("T", bound=Hashable)


class UnderWay(Generic[T]):
    """Begins items in the order in which they come, as long as they fit the bounds. An item larger than the
    bound of bytes is begun alone. Not thread-safe."""

    def __init__(
        self, count: int, most: int, begin: Callable[[T, int], None], allowance: Allowance | None = None
    ) -> None:
        """`count`: the largest number of items under way. `most`: the largest number of their bytes.
        `allowance`: a bound on bytes that several such objects share; None for a bound of its own. `begin` is
        called with an item and its bytes; it may call any method of this object."""
        self._count = count
        self._most = most
        self._begin = begin
        self._allowance = Allowance(most) if allowance is None else allowance
        self._begun = 0
        self._bytes = 0
        self._waiting: OrderedDict[T, int] = OrderedDict()
        self._beginning = False

    def enter(self, item: T, size: int) -> None:
        """Begins an item, now or when it is its turn."""
        self._waiting[item] = min(size, self._most)
        self._go_on()

    def withdraw(self, item: T) -> bool:
        """Takes back an item that waits for its turn. Returns False if the item is not waiting."""
        found = self._waiting.pop(item, None) is not None
        self._go_on()
        return found

    def ended(self, size: int) -> None:
        """Notes that an item of `size` bytes has ended, and begins the waiting items that fit now."""
        self._begun -= 1
        self._bytes -= min(size, self._most)
        self._allowance.give_back(min(size, self._most))
        self._go_on()

    def drain(self) -> list[T]:
        """Takes back all waiting items, and returns them in their order."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _go_on(self) -> None:
        if self._beginning:
            return  # called by `begin`: the loop below goes on
        self._beginning = True
        try:
            while self._waiting and self._begun < self._count:
                item, size = next(iter(self._waiting.items()))
                if self._bytes + size > self._most:
                    break
                if not self._allowance.take(size, self._go_on, alone=not self._begun):
                    break
                del self._waiting[item]
                self._begun += 1
                self._bytes += size
                self._begin(item, size)
        finally:
            self._beginning = False
