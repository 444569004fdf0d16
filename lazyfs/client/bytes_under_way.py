"""A bound on the bytes under way at one time: the bytes of an object are held in memory until verified."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class BytesUnderWay:
    """Admits objects in the order of their requests, as long as they fit the bound. An object larger than the
    bound is admitted alone. Belongs to one trio run."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Waits until `size` bytes more may be under way, and counts them meanwhile."""
        size = min(size, self._most)
        if self._waiting or self._taken + size > self._most:
            turn = (size, trio.Event())
            self._waiting.append(turn)
            try:
                await turn[1].wait()
            except BaseException:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._taken -= size
                self._admit()
                raise
        else:
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._most:
            size, event = self._waiting.popleft()
            self._taken += size
            event.set()
