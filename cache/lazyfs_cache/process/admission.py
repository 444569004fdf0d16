"""Admitting values: space first, then the bytes, then the name, then the entry.

    1. draw the upper bound from the purse; if it has too little, a change evicts what must go and fills it
    2. note the key in the journal, write the sealed value to tmp/, rename it into data/: no lock
    3. with the next change (16 values, or two seconds), enter what it occupies into the index

Until 3 the value is charged by what the purse holds. Killed before it, a process leaves a journal that names
the key, and the purse's charge stands until the next process has undone it.
"""

import time
from contextlib import suppress
from types import TracebackType

from lazyfs_cache.files import journal, layout
from lazyfs_cache.policy.allowance import Arrived, Drawn
from lazyfs_cache.policy.limits import Need
from lazyfs_cache.process.pending_allowance import POOLED
from lazyfs_cache.process.shared_index import FULL, Ledger


class Reservation:
    """Space held for one value that is on its way; given back unless `Cache.put` used it."""

    def __init__(self, ledger: Ledger, key: bytes, size: int, charge: int, drawn: Drawn) -> None:
        self._ledger: Ledger | None = ledger
        self.generation = drawn.generation
        self.key = key
        self.size = size
        self.charge = charge
        self.recycled = drawn.over
        """Slot of a file that may be written over."""
        self._owner = ledger.seat.me

    def release(self) -> None:
        """Give the space back. Does nothing the second time."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            if self.recycled is not None:
                ledger.grant.discard([self.recycled], self._owner)
            ledger.purse.give_back(self.charge, self.generation)
            ledger.wake.set()

    @property
    def over(self) -> bool:
        """It was used or given back, and stands for nothing any more."""
        return self._ledger is None

    def used(self) -> None:
        """The value is here: its space is charged as an entry, or soon will be."""
        self._ledger = None

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """The way in."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._disk = ledger.disk
        self._space = ledger.space
        self._purse = ledger.purse
        self.admitted = self.refused = 0

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Hold space for a value before its download starts; None: go on without the cache."""
        charge = self._disk.cost(size)
        if self._ledger.off is None and 0 < len(key) <= layout.MAX_KEY:
            drawn = self._draw(charge, write_over=size < POOLED)
            if drawn is not None:
                self._ledger.grant.discard(drawn.gone)
                return Reservation(self._ledger, key, size, charge, drawn)
        self.refused += 1
        return None

    def _draw(self, charge: int, *, write_over: bool) -> Drawn | None:
        ledger = self._ledger
        deadline = time.monotonic() + ledger.timeout
        while ledger.stale() or (drawn := self._purse.draw(charge, write_over=write_over)) is None:
            progress = False
            with ledger.change(max(deadline - time.monotonic(), 0)) as change:
                if change is not None and self._space.possible(change.sums, charge):
                    progress = ledger.grant.fill(change, charge)
            if not progress or change is None or not change.committed:
                return None
        return drawn

    def put(self, key: bytes, value: bytes | memoryview, reservation: Reservation | None) -> bool:
        """Admit a verified value; True if it is here afterwards."""
        if reservation is not None and (reservation.key != key or reservation.size != len(value)):
            reservation.release()
        if reservation is not None and reservation.over:
            reservation = None
        if self._ledger.off is not None:
            return False
        try:
            if not self._ledger.remove_damaged(key):
                return False
            if self._disk.length(key) is not None:
                if reservation is not None:
                    reservation.release()
                return True
        except OSError as error:
            self._ledger.fail(error)
            return False
        held = reservation or self.reserve(key, len(value))
        if held is None:
            return False
        with held:
            done = self._store(held, value)
        if done:
            self.admitted += 1
        else:
            self.refused += 1
        return done

    def _store(self, held: Reservation, value: bytes | memoryview) -> bool:
        ledger, purse = self._ledger, self._purse
        if held.generation != purse.generation:  # what it holds went with its index while it was downloaded
            return False
        slot = purse.slot()
        if slot is None:
            with ledger.change():  # frees the slots of what has arrived
                pass
            slot = purse.slot()
            if slot is None:
                return False
        owner = ledger.seat.me
        try:
            ledger.seat.journal.arriving(slot, held.key)
            occupied = self._write(journal.tmp_name(owner, slot), held, value)
            if occupied is None or held.generation != purse.generation:
                self._disk.discard_tmp(journal.tmp_name(owner, slot))
                purse.free_slot(slot)
                return False
            self._disk.publish(journal.tmp_name(owner, slot), held.key)
        except OSError as error:
            ledger.fail(error)
            ledger.uses.damaged(held.key)  # half-way: the next change looks at its file and its directory
            with suppress(OSError):
                self._disk.discard_tmp(journal.tmp_name(owner, slot))
            purse.free_slot(slot)  # last: whoever has the slot next has its file too
            return False
        held.used()
        due = purse.arrive(Arrived(slot, held.key, held.size, held.charge, occupied), held.generation)
        if due is None:
            ledger.uses.damaged(held.key)  # nothing in the new index stands for it
            purse.free_slot(slot)
            return False
        ledger.uses.touch(held.key)
        if due:
            with ledger.change() as change:
                if change is not None:
                    ledger.grant.fill(change, 0)
        return True

    def _write(self, tmp: str, held: Reservation, value: bytes | memoryview) -> int | None:
        """The bytes of disk the value occupies; None if they are more than it was reserved with."""
        try:
            if held.recycled is not None:
                slot, held.recycled = held.recycled, None
                return self._write_over(slot, tmp, held, value)
            occupied = self._disk.write(tmp, held.key, value)
        except OSError as error:
            # The disk is full although the account has room: others fill it. Evict as much, try again.
            if error.errno not in FULL or not self._ledger.evict(Need(held.charge, 1)):
                raise
            occupied = self._disk.write(tmp, held.key, value)
        return max(occupied, self._disk.rounded(held.size)) if occupied <= held.charge else None

    def _write_over(self, slot: int, tmp: str, held: Reservation, value: bytes | memoryview) -> int | None:
        pooled = journal.tmp_name(self._ledger.seat.me, slot)
        try:
            occupied = self._disk.write_over(pooled, held.key, value)
            self._disk.rename_tmp(pooled, tmp)
        finally:
            self._purse.free_slot(slot)
        return max(occupied, self._disk.rounded(held.size)) if occupied <= held.charge else None
