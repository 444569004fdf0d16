"""Space that the index holds for one process, so that the process may promise it to values without a
transaction.

Asking the index for every value would cost a transaction each time; so a process holds a little more than it
has promised. All of it is charged. Spare files may occupy a part of the free space: they are files of evicted
values, kept to be written over.
"""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from lazyfs_cache.policy.slots import Slots


class Drawn(NamedTuple):
    """A promise of space, with the slots (numbers) of the spare files that occupy it."""

    over: int | None
    """The slot of the spare file to write over, which occupies no more than was promised; None for a new
    file."""
    gone: list[int]
    """The slots of the spare files that must be unlinked before the promise is used. The slots are freed
    after that."""


class SpaceAllowance:
    """The allowance of one process in one generation of the index. Thread-safe; every method returns at
    once."""

    def __init__(self, slots: Iterable[int] = ()) -> None:
        """`slots`: the numbers that spare files may have."""
        self._guard = threading.Lock()
        self._ended = False
        self._free = 0
        self._promised = 0
        self.slots = Slots(slots)
        """The slots for spare files: one is taken when the file of an evicted value is kept, and freed when
        the file is gone."""
        self._spares: list[tuple[int, int]] = []  # (bytes occupied, slot)
        self._spare_bytes = 0

    def end(self) -> list[int]:
        """Ends the allowance because its index is no longer in use: all held space is void, even space that
        is put in or given back later. Returns the slots of the spare files, which are to be unlinked."""
        with self._guard:
            self._ended = True
            self._free = self._promised = self._spare_bytes = 0
            slots = [slot for _, slot in self._spares]
            self._spares.clear()
            return slots

    def put_in(self, amount: int) -> None:
        """Adds `amount` bytes, which the index now holds for the process, to the free space."""
        with self._guard:
            if not self._ended:
                self._free += amount

    def draw(self, amount: int, *, write_over: bool = True) -> Drawn | None:
        """Promises `amount` of the free space. Returns None if there is less.

        Spare files that occupy the promised space are part of the promise, to be unlinked by the caller. With
        `write_over`, one of them may be written over instead.
        """
        with self._guard:
            if self._ended or self._free < amount:
                return None
            self._free -= amount
            self._promised += amount
            over = None
            gone = []
            if write_over and self._spare_bytes > self._free:
                fitting = max((one for one in self._spares if one[0] <= amount), default=None)
                if fitting is not None:
                    over = self._take(fitting)
            while self._spare_bytes > self._free:
                gone.append(self._take(self._spares[-1]))
            return Drawn(over, gone)

    def _take(self, spare: tuple[int, int]) -> int:
        self._spares.remove(spare)
        self._spare_bytes -= spare[0]
        return spare[1]

    def give_back(self, amount: int) -> None:
        """Ends a promise of `amount` bytes that were not used: they are free space again."""
        with self._guard:
            if not self._ended:
                self._promised -= amount
                self._free += amount

    def spend(self, amount: int) -> None:
        """Ends a promise of `amount` bytes, because the index has entered what they were used for: they leave
        the allowance."""
        with self._guard:
            self._promised -= amount

    def missing(self, target: int) -> int:
        """Returns the number of bytes to put in so that `target` bytes are free; 0 while at least half of
        `target` is free."""
        return target - self._free if self._free < target // 2 else 0

    def take_idle(self) -> int:
        """Takes all free space, to be given back to the index, and returns its bytes. Takes nothing and
        returns 0 while any space is promised, or spare files occupy some."""
        with self._guard:
            if self._promised or self._spare_bytes:
                return 0
            free, self._free = self._free, 0
            return free

    # -- spare files -------------------------------------------------------------------------------------

    def add_spares(self, spares: list[tuple[int, int]]) -> None:
        """Adds spare files, each given as (bytes of disk that it occupies, its slot). Their bytes are charged
        already, and now count as free space of the allowance."""
        with self._guard:
            self._spares += spares
            self._spare_bytes += sum(occupied for occupied, _ in spares)
            self._free += sum(occupied for occupied, _ in spares)

    def take_spares(self) -> tuple[list[int], int]:
        """Takes all spare files. Returns their slots, and the bytes that the files occupy. The caller unlinks
        the files and frees the slots; the bytes stay promised until they are given back."""
        with self._guard:
            slots = [slot for _, slot in self._spares]
            self._spares.clear()
            amount, self._spare_bytes = self._spare_bytes, 0
            self._free -= amount
            self._promised += amount
            return slots, amount
