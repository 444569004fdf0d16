"""The order in which the objects of several images are fetched ahead: each image gets equal bytes. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairOrder(Generic[T]):
    """Waiting items in groups. The next item comes from the group that has had the fewest bytes; within a
    group the order is that of arrival.

    A group that begins to wait starts level with the one that is served now: an image that was idle for an
    hour does not get the bytes of that hour later.
    """

    def __init__(self) -> None:
        self._groups: dict[Hashable, OrderedDict[T, int]] = {}
        self._had: dict[Hashable, int] = {}
        """For each waiting group, the bytes that were taken for it, plus its start: the value of `_level`
        when it began to wait."""
        self._level = 0
        """The value in `_had` of the group served last, before that item was added. A group that begins to
        wait starts with this value, and so level with the other groups."""

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def enter(self, group: Hashable, item: T, size: int) -> None:
        """Adds an item of `size` bytes to a group."""
        if group not in self._groups:
            self._groups[group] = OrderedDict()
            self._had[group] = self._level
        self._groups[group][item] = size

    def next(self) -> tuple[T, int] | None:
        """Returns the item that `take` would remove, and its bytes; None if none waits."""
        return next(iter(self._groups[self._first()].items())) if self._had else None

    def take(self) -> T:
        """Removes the next item and returns it. Raises ValueError if none waits."""
        group = self._first()
        item, size = self._groups[group].popitem(last=False)
        self._level = self._had[group]
        self._had[group] += size
        if not self._groups[group]:
            del self._groups[group], self._had[group]
        return item

    def _first(self) -> Hashable:
        # of two that have had as much, the one that came earlier: dicts keep their order
        return min(self._had, key=self._had.__getitem__)
