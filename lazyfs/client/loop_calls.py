"""Calls that any thread hands to the event loop, which makes them in order."""

import logging
import threading
from collections import deque
from collections.abc import Callable

import trio

from lazyfs.client.system_task import begin

log = logging.getLogger(__name__)


class LoopCalls:
    """The calls that wait for one event loop. One request to the loop is made for all that come together."""

    def __init__(self) -> None:
        """Belongs to the trio run it is made in."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._waiting: deque[Callable[[], None]] = deque()
        self._asked = False
        """True if the event loop has been asked to make the calls that wait."""

    @property
    def is_here(self) -> bool:
        """True in the event loop's thread."""
        return threading.get_ident() == self._thread

    def soon(self, call: Callable[[], None]) -> None:
        """Calls `call` later in the event loop. May be called in any thread; returns at once."""
        self._waiting.append(call)
        if self._asked:
            return
        self._asked = True
        # In the loop's own thread a task is the shorter way: the next round. A loop that ends begins none.
        if self.is_here and begin(self._make_later, name="calls of threads"):
            return
        try:
            self._token.run_sync_soon(self._make)
        except trio.RunFinishedError:
            pass  # the mount has ended; a reader thread finds out a moment later

    async def _make_later(self) -> None:
        self._make()

    def _make(self) -> None:
        self._asked = False  # before the look: what comes after it asks again
        while self._waiting:
            _logged(self._waiting.popleft())


def _logged(call: Callable[[], None]) -> None:
    """Calls `call`, and logs its exception: if trio runs the call, an exception would end the whole run."""
    try:
        call()
    except Exception:
        log.exception("a call that a thread handed over")
