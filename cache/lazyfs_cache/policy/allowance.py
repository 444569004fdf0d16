"""Space the index holds for this process, and the values waiting to be entered into it.

Asking the index for every value would cost a transaction each way; so a process holds a little more than it
has promised, and spends it without asking. What it holds is charged like everything else.
"""

import threading
from collections import deque
from typing import NamedTuple

from lazyfs_cache.files.journal import POOL, SLOTS


class Arrived(NamedTuple):
    """A value whose file is in data/ and whose entry is not in the index yet."""

    slot: int
    key: bytes
    size: int
    held: int
    """The upper bound it was reserved with."""
    occupied: int
    """What it does occupy."""


class Drawn(NamedTuple):
    """A promise, and what came with it: slots of files in the pool whose space it takes."""

    generation: int
    """Of the index that holds it."""
    over: int | None
    """One to write over; it occupies no more than was promised."""
    gone: list[int]
    """To be unlinked, then freed, before the promise is used."""


class Purse:
    """Thread-safe; every method returns at once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.generation = 0
        self._free = 0
        self._promised = 0
        self._slots = deque(range(SLOTS))
        self._arrived: deque[Arrived] = deque()
        self._pool: list[tuple[int, int]] = []  # (bytes occupied, slot) of files that may be written over
        self._pool_slots = deque(range(SLOTS, SLOTS + POOL))
        self._pooled = 0

    def begin(self, generation: int) -> None:
        """The index holds nothing for this process (any more)."""
        with self._guard:
            self.generation = generation
            self._free = self._promised = 0

    def put_in(self, amount: int, generation: int) -> None:
        """The index of that generation holds `amount` more."""
        with self._guard:
            if generation == self.generation:
                self._free += amount

    def draw(self, amount: int, *, write_over: bool = True) -> Drawn | None:
        """Promise `amount` of what is held; None if that much is not free. What is free may be taken by files
        in the pool: then some of them go with the promise, one of them, if wanted, to be written over."""
        with self._guard:
            if self._free < amount:
                return None
            self._free -= amount
            self._promised += amount
            over = None
            gone = []
            if write_over and self._pooled > self._free:
                fitting = max((one for one in self._pool if one[0] <= amount), default=None)
                if fitting is not None:
                    over = self._take(fitting)
            while self._pooled > self._free:
                gone.append(self._take(self._pool[-1]))
            return Drawn(self.generation, over, gone)

    def _take(self, file: tuple[int, int]) -> int:
        self._pool.remove(file)
        self._pooled -= file[0]
        return file[1]

    def pool_slot(self) -> int | None:
        """A slot for the file of a value that is being evicted; None if the pool is full."""
        try:
            return self._pool_slots.popleft()
        except IndexError:
            return None

    def pool(self, files: list[tuple[int, int]]) -> None:
        """The index holds these files (bytes occupied, slot): they may be written over."""
        with self._guard:
            self._pool += files
            self._pooled += sum(occupied for occupied, _ in files)
            self._free += sum(occupied for occupied, _ in files)

    def drain(self) -> tuple[list[int], int]:
        """The slots of all files in the pool: they are to be unlinked, then freed. What they occupy is
        promised until it is given back."""
        with self._guard:
            slots = [slot for _, slot in self._pool]
            self._pool.clear()
            amount, self._pooled = self._pooled, 0
            self._free -= amount
            self._promised += amount
            return slots, amount

    def give_back(self, amount: int, generation: int) -> None:
        """A promise is over, and its space was not used."""
        with self._guard:
            if generation == self.generation:
                self._promised -= amount
                self._free += amount

    def spend(self, amount: int) -> None:
        """A promise is over: the index has entered what used it."""
        with self._guard:
            self._promised -= amount

    def missing(self, target: int) -> int:
        """What would have to be put in to have `target` free; 0 while half of it is."""
        return target - self._free if self._free < target // 2 else 0

    def take_idle(self) -> int:
        """Everything that is free, to be given back to the index; 0 while anything is under way."""
        with self._guard:
            if self._promised or self._arrived or self._pooled:
                return 0
            free, self._free = self._free, 0
            return free

    # -- values on their way -----------------------------------------------------------------------------

    def slot(self) -> int | None:
        """A journal slot, to be freed when its value is entered or given up; None if all are taken."""
        try:
            return self._slots.popleft()
        except IndexError:
            return None

    def free_slot(self, slot: int) -> None:
        (self._slots if slot < SLOTS else self._pool_slots).append(slot)

    def arrive(self, value: Arrived, generation: int) -> bool | None:
        """Wait for the next change; whether it is time for one. None, and nothing, if the index that held its
        space is not in use any more."""
        with self._guard:
            if generation != self.generation:
                return None
            self._arrived.append(value)
            return len(self._arrived) >= SLOTS // 2

    def take_arrived(self) -> list[Arrived]:
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def return_arrived(self, values: list[Arrived]) -> None:
        """The change that took them failed."""
        self._arrived.extendleft(reversed(values))

    @property
    def waiting(self) -> bool:
        return bool(self._arrived)
