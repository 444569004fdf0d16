"""Inode numbers below 2**32 for programs to see, as XFS has `inode32`.

A 32-bit program without large file support gets EOVERFLOW from stat and readdir for a larger number. The
kernel goes on asking by the 64-bit numbers, which stay as they are; stat and readdir show smaller ones to
programs. A block of 256 shown numbers is allotted to each run of 256 indices of a slot when the first index
of the run is shown, and freed with the slot. So two files never share a number, and a file keeps its number
for as long as the kernel knows the file. Blocks are allotted in rising order; after 2**24 of them, freed ones
are used again.
"""

from collections.abc import Callable, Iterable

import msgspec

from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.rising_numbers import RisingNumbers

_BITS = 8
_BLOCKS = 1 << 32 - _BITS

Shown = Callable[[int], int]
"""A function that returns the number that programs see, given the number that the kernel asks by."""


def as_it_is(number: int) -> int:
    """Returns the number itself."""
    return number


class ShownBlock(msgspec.Struct, frozen=True):
    """A block as the journal persists it."""

    run: int
    """The number of a slot, followed by the upper bits of an index: names a run of 256 inode numbers."""
    block: int

    @property
    def slot(self) -> int:
        """The slot that the block belongs to; the block is freed together with it."""
        return self.run >> 32 - _BITS


def _keep_nothing(_: ShownBlock) -> None:
    """Does nothing: the `record` of ShortNumbers that are not persisted."""


class ShortNumbers:
    """The blocks that are allotted. Not thread-safe: used under the filesystem's lock."""

    def __init__(
        self,
        blocks: int = _BLOCKS,
        *,
        record: Callable[[ShownBlock], None] = _keep_nothing,
        last: memoryview | None = None,
    ) -> None:
        """`blocks`: the number of blocks; the first one is for the mount's root alone. `record` is called
        with each block that is allotted. `last`: the word with the block allotted last (RisingNumbers)."""
        self._record = record
        self._numbers = RisingNumbers(blocks - 1, last)
        self._blocks = blocks
        self._of: dict[int, int] = {}
        """The block allotted to each run, by the run's number (slot, and upper bits of an index)."""
        self._runs: dict[int, list[int]] = {}
        """For each slot, its runs that have a block."""
        self._used: set[int] = set()

    def __len__(self) -> int:
        return len(self._of)

    def shown(self, number: int) -> int:
        """Returns the number that programs see. Raises OverflowError if all blocks are in use."""
        if number == ROOT:
            return ROOT
        run = number >> _BITS
        block = self._of.get(run)
        if block is None:
            block = self._allot(run)
        return block << _BITS | number & (1 << _BITS) - 1

    def _allot(self, run: int) -> int:
        if len(self._used) >= self._blocks - 1:
            raise OverflowError("all inode numbers below 2**32 are in use; mount without --inode32")
        block = self._numbers.next(self._used.__contains__)
        self._keep(ShownBlock(run, block))
        self._record(ShownBlock(run, block))
        return block

    def restore(self, blocks: Iterable[ShownBlock]) -> None:
        """Takes over the blocks that an earlier process had allotted."""
        for one in blocks:
            self._numbers.restore(one.block)
            self._keep(one)

    def _keep(self, one: ShownBlock) -> None:
        self._of[one.run] = one.block
        self._used.add(one.block)
        self._runs.setdefault(one.slot, []).append(one.run)

    def forget_slot(self, slot: int) -> None:
        """Gives back the blocks of a freed slot."""
        for run in self._runs.pop(slot, ()):
            self._used.discard(self._of.pop(run))
