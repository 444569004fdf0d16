"""Spare files: files of evicted values, kept in tmp/ so that new values are written over them.

On ext4 writing over a file costs a tenth of unlinking it and making another. Their space is part of the
process's allowance.
"""

from collections.abc import Iterable

from lazyfs_cache.files import journal
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.policy.allowance import SpaceAllowance
from lazyfs_cache.policy.eviction import Queued
from lazyfs_cache.process.health import Health

LARGEST = 64 << 10
"""Bytes of the largest file that is kept. To write over a larger file costs more than to make a new one."""


class SpareFiles:
    """The spare files of one process in one generation of the index."""

    def __init__(self, owner: int, files: ValueFiles, allowance: SpaceAllowance, health: Health) -> None:
        self._owner = owner
        self._files = files
        self._allowance = allowance
        self._health = health

    def name(self, slot: int) -> str:
        """Returns the name in tmp/ of the spare file in a slot."""
        return journal.tmp_name(self._owner, slot)

    def take(self, value: Queued) -> int | None:
        """Turns the value's file into a spare file. Returns the spare file's slot; None if the file is not
        worth keeping. Raises OSError."""
        if value.charge > LARGEST or (slot := self._allowance.slots.take()) is None:
            return None
        if not self._files.take_out(value.key, self.name(slot)):
            self._allowance.slots.free(slot)
            return None
        return slot

    def discard(self, slots: Iterable[int]) -> None:
        """Unlinks the spare files of these slots, and frees the slots."""
        for slot in slots:
            try:
                self._files.discard_tmp(self.name(slot))
            except OSError as error:
                self._health.fail(error)
            self._allowance.slots.free(slot)

    def discard_all(self) -> None:
        """Unlinks all spare files; their space becomes free in the allowance."""
        slots, amount = self._allowance.take_spares()
        self.discard(slots)
        self._allowance.give_back(amount)
