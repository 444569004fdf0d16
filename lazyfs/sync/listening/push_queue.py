"""The pushes that wait for the next run: each once, and never more than a bound."""

import threading
from collections.abc import Callable, Iterable

from lazyfs.core.webhooks.pushes import Push

MOST_WAITING = 10_000
"""Pushes that wait: a few megabytes."""


class PushQueue:
    """Takes pushes from many threads and gives them to one. A push that waits already is not taken again."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: dict[Push, None] = {}
        self._changed = threading.Condition()

    def offer(self, pushes: Iterable[Push]) -> bool:
        """Takes these pushes; returns False, and takes none, if there is no room for all of them."""
        with self._changed:
            fresh = [one for one in dict.fromkeys(pushes) if one not in self._waiting]
            if len(self._waiting) + len(fresh) > self._most:
                return False
            self._waiting.update(dict.fromkeys(fresh))
            self._changed.notify_all()
            return True

    def take(self, patience: float, settle: Callable[[], None]) -> list[Push]:
        """Returns all that wait, in the order in which they came; none if none comes within `patience`
        seconds. `settle` is called once there are some, so that those which come with them are taken too."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, patience):
                return []
        settle()
        with self._changed:
            found = [*self._waiting]
            self._waiting.clear()
        return found
