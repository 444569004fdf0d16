"""What threads have a trio run do, with one wake of the run for all that comes together."""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio


class ThreadPost:
    """Calls for a trio run, from its threads. Belongs to the run in which it is made."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        """True if the run was woken, and has not taken the calls yet."""
        self._token = trio.lowlevel.current_trio_token()

    def send(self, calls: Iterable[Callable[[], None]]) -> None:
        """Has the run make these calls, in order; they must not raise. Called in any thread; does not block.
        Calls for a run that has ended are lost."""
        self._calls.extend(calls)
        if self._calls and not self._woken:
            self._woken = True
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._make_calls)

    def _make_calls(self) -> None:
        self._woken = False  # reset first: a call that comes after the loop wakes the run again
        while self._calls:
            self._calls.popleft()()
