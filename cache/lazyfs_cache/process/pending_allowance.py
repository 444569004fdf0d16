"""What a change gives to this process's purse: space, and the files of evicted values to be written over.

What was taken within a change is the purse's only when the change is committed; until then it is kept here.
"""

import threading
from collections.abc import Callable, Iterable

from lazyfs_cache.files import journal
from lazyfs_cache.index.rows import Queued
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.policy.allowance import Purse
from lazyfs_cache.policy.limits import Space, purse
from lazyfs_cache.process.membership import Seat

POOLED = 64 << 10
"""Bytes of the largest file that is kept to be written over; larger ones cost more to write than to make."""


class Grant:
    """Used under the change lock, but for `discard`."""

    def __init__(
        self, seat: Seat, space: Space, purse: Purse, wake: threading.Event, fail: Callable[[OSError], None]
    ) -> None:
        self._seat = seat
        self._space = space
        self._purse = purse
        self._wake = wake
        self._fail = fail
        self._amount = 0
        self._pooled: list[tuple[int, int]] = []

    def begin(self) -> None:
        """A change begins."""
        self._amount = 0
        self._pooled = []

    def fill(self, change: Change, least: int) -> bool:
        """Hold `least` bytes more, and as many as the purse wants, evicting what must go; whether it is worth
        another try if the purse still has too little."""
        wanted = least + self._purse.missing(purse(change.sums.limit))
        if not wanted:
            return True
        need = self._space.need(change, wanted)
        evicted = 0 if need.met else self._space.evict(change, need, self._keep_file)
        pooled = sum(occupied for occupied, _ in self._pooled)
        if pooled:
            change.hold(self._seat.me, pooled)
        for amount in (wanted - pooled, least - pooled):
            if amount <= 0:
                return True
            if self._space.need(change, amount).met:
                change.hold(self._seat.me, amount)
                self._amount = amount
                if self._space.above_high(change.sums):
                    self._wake.set()
                return True
        return evicted > 0

    def _keep_file(self, value: Queued) -> bool:
        """Small files of evicted values are kept, to be written over: they are held by the purse."""
        if value.charge > POOLED or (slot := self._purse.pool_slot()) is None:
            return False
        if not self._seat.disk.take_out(value.key, journal.tmp_name(self._seat.me, slot)):
            self._purse.free_slot(slot)
            return False
        self._pooled.append((value.charge, slot))
        return True

    def committed(self) -> None:
        """The purse has it now."""
        self._purse.put_in(self._amount, self._purse.generation)
        self._purse.pool(self._pooled)
        self._pooled = []

    def end(self) -> None:
        """The change is over; if it was not committed, the files it kept go."""
        self.discard(slot for _, slot in self._pooled)
        self._pooled = []

    def discard(self, slots: Iterable[int], owner: int | None = None) -> None:
        """Unlink the temporary files of slots, and free the slots. `owner`: this process's number when it got
        them, if that may be another by now."""
        for slot in slots:
            try:
                self._seat.disk.discard_tmp(journal.tmp_name(owner or self._seat.me, slot))
            except OSError as error:
                self._fail(error)
            self._purse.free_slot(slot)
