"""Fetches files that nobody has asked for, on a guess, AT_ONCE objects at a time, while no call waits for an
object.

Objects that are nearly certain to be wanted are fetched along with a miss, by `queue`; the weaker guesses are
fetched here. None is begun while a reader waits, so a reader who comes a moment later shares the network line
with AT_ONCE objects at most.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from lazyfs.client.demand import Demand
from lazyfs.client.objects import Objects
from lazyfs.client.system_task import begin
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.prefetch.guess_budget import GuessBudget
from lazyfs.vfs.paths_in_images import FileInImage

AT_ONCE: Final = 2
"""The largest number of objects under way on a guess; a chunk has 1 MiB at most by default, a pack less."""
WAITING: Final = 1024
"""The largest number of guesses that wait; the oldest are dropped, since the program has moved on."""

log = logging.getLogger(__name__)


class _Guess(NamedTuple):
    """A file that may be read whole soon."""

    file: FileInImage
    ended: Callable[[FileInImage], None]
    """Called with the file once its objects are in the cache."""


class Guesses:
    """The guesses of one repository. Belongs to one trio run."""

    def __init__(
        self, objects: Objects, demand: Demand, cache_room: Callable[[], int], budget: GuessBudget
    ) -> None:
        """`cache_room` returns, without waiting, the bytes of the cache that unused guesses may occupy."""
        self._objects = objects
        self._demand = demand
        self._cache_room = cache_room
        self._budget = budget
        self._waiting: deque[_Guess] = deque()
        self._tasks = 0

    def add(self, files: list[FileInImage], ended: Callable[[FileInImage], None]) -> None:
        """Queues files that may be read whole soon. `ended` is called with each file once its objects are in
        the cache."""
        self._waiting += [_Guess(file, ended) for file in files]
        while len(self._waiting) > WAITING:
            self._waiting.popleft()
            self._budget.dropped += 1
        for _ in range(min(AT_ONCE - self._tasks, len(files))):
            if begin(self._work, name="guesses"):
                self._tasks += 1

    async def _work(self) -> None:
        # A system task: an error that escapes would end the whole trio run.
        try:
            while self._waiting:
                await self._demand.idle()
                if self._waiting:  # the other task may have taken the last one
                    await self._carry_out(self._waiting.popleft())
        except Exception:
            log.exception("fetching on a guess")
        finally:
            self._tasks -= 1

    async def _carry_out(self, guess: _Guess) -> None:
        file = guess.file
        place = file.entry.place(file.packs)
        if place is not None:
            here = await self.fetch(place.ref, file.entry.content)
        else:
            here = await self._fetch_chunks(file)
        if here:
            guess.ended(file)

    async def _fetch_chunks(self, file: FileInImage) -> bool:
        chunks = file.entry.chunks
        if chunks is None:
            listed = file.entry.chunk_list
            if listed is None or not await self.fetch(listed, file.entry.content):
                return False
            plain = self._objects.at_hand(listed)
            if plain is None:
                return False
            chunks = ChunkList(plain, file.entry.size, file.entry.detail)
        for index in range(len(chunks)):
            if not await self.fetch(chunks.chunk(index), file.entry.content):
                return False
        return True

    async def fetch(self, ref: ObjectRef, file: bytes = b"") -> bool:
        """Fetches an object, within the budget. `file`: the content id (`Entry.content_id`) of the file that
        is guessed whole; empty if the object alone is guessed. Returns True if the object is in the cache
        afterwards."""
        if self._objects.is_at_hand(ref):
            return True
        if ref.digest in self._budget.unused or not self._objects.keeps:
            return False  # it is under way already
        await self._demand.idle()
        if not self._budget.has_room(ref, self._cache_room()):
            self._budget.dropped += 1
            return False
        self._budget.take(ref, file)
        try:
            await self._objects.fetch(ref, ahead=True)
        except LazyfsError:
            self._budget.give_back(ref)
            return False
        return True
