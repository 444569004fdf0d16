"""A bounded queue of the pushes that wait for the next run, each once."""

import threading
from collections.abc import Callable, Iterable

from lazyfs.core.webhooks.pushes import Push

MOST_WAITING = 10_000
"""The largest number of pushes that wait: they take a few megabytes of memory."""


class PushQueue:
    """A queue of pushes that many threads fill and one thread empties. A push that is already in the queue is
    not added again."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: dict[Push, None] = {}
        self._changed = threading.Condition()

    def offer(self, pushes: Iterable[Push]) -> bool:
        """Adds these pushes; returns False, and adds none, if there is no room for all of them."""
        with self._changed:
            fresh = [one for one in dict.fromkeys(pushes) if one not in self._waiting]
            if len(self._waiting) + len(fresh) > self._most:
                return False
            self._waiting.update(dict.fromkeys(fresh))
            self._changed.notify_all()
            return True

    def take(self, patience: float, settle: Callable[[], None]) -> list[Push]:
        """Waits up to `patience` seconds for pushes, and returns all that are queued, in the order in which
        they came; an empty list if none came. `settle`: called as soon as the first push is there; it may
        wait, so that pushes that follow at once are returned too."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, patience):
                return []
        settle()
        with self._changed:
            found = [*self._waiting]
            self._waiting.clear()
        return found
