"""Admitting values: space first, then the bytes, then the name, then the entry.

    1. draw the upper bound from the allowance; if it has too little, a transaction evicts values and fills it
    2. note the key in the journal, write the sealed value to tmp/, rename it into data/: no lock
    3. with the next transaction (16 values, or two seconds), enter it into the index, charged with the bytes
       that it occupies

Until step 3 the value is charged as a part of the allowance. A process killed before it leaves a journal that
names the key, and that charge stays until the next process has cleaned up.
"""

import threading
import time
from contextlib import suppress
from types import TracebackType

from lazyfs_cache.files import journal, layout
from lazyfs_cache.policy.allowance import Drawn
from lazyfs_cache.policy.limits import Shortfall
from lazyfs_cache.process import spare_files
from lazyfs_cache.process.arrivals import Arrived
from lazyfs_cache.process.cache_parts import CacheParts
from lazyfs_cache.process.health import FULL
from lazyfs_cache.process.index_generation import IndexGeneration


class Reservation:
    """Space held for one value on its way; given back unless `Cache.put` used it."""

    def __init__(
        self,
        key: bytes,
        size: int,
        charge: int,
        drawn: Drawn,
        generation: IndexGeneration,
        wake: threading.Event,
    ) -> None:
        self.key = key
        self.size = size
        self.charge = charge
        """Upper bound of the bytes of disk it occupies."""
        self.generation = generation
        self.recycled = drawn.over
        """Slot of a spare file that may be written over."""
        self._wake = wake
        self.over = False
        """True once it was used or given back, and holds no space any more."""

    def release(self) -> None:
        """Give the space back; the second call does nothing."""
        if self.over:
            return
        self.over = True
        if self.recycled is not None:
            self.generation.spares.discard([self.recycled])
        self.generation.allowance.give_back(self.charge)
        self._wake.set()

    def used(self) -> None:
        """Note that the value is here: an entry is charged for its space, now or soon."""
        self.over = True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """The admission of values. Thread-safe."""

    def __init__(self, parts: CacheParts) -> None:
        self._shared, self._room, self._uses, self._suspects, self._wake = parts
        self._files = parts.shared.files
        self._health = parts.shared.health
        self.admitted = self.refused = 0

    # -- space -------------------------------------------------------------------------------------------

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Hold space for a value before its download starts; None: the caller goes on without the cache."""
        charge = self._files.most_for_value(size)
        if self._health.off is None and 0 < len(key) <= layout.MAX_KEY:
            found = self._draw(charge, write_over=size < spare_files.LARGEST)
            if found is not None:
                drawn, generation = found
                generation.spares.discard(drawn.gone)
                return Reservation(key, size, charge, drawn, generation, self._wake)
        self.refused += 1
        return None

    def _draw(self, charge: int, *, write_over: bool) -> tuple[Drawn, IndexGeneration] | None:
        """A promise of `charge` bytes, and the generation of the index that holds them; None if they cannot
        be freed in time."""
        shared = self._shared
        deadline = time.monotonic() + shared.timeout
        while True:
            generation = shared.generation
            if not shared.stale():
                drawn = generation.allowance.draw(charge, write_over=write_over)
                if drawn is not None:
                    return drawn, generation
            progress = False
            with shared.transaction(max(deadline - time.monotonic(), 0)) as transaction:
                if transaction is not None:
                    generation = shared.generation
                    if generation.limits.possible(transaction.sums, charge):
                        progress = generation.pending.fill(transaction, charge)
            if not progress or transaction is None or not transaction.committed:
                return None

    # -- values ------------------------------------------------------------------------------------------

    def put(
        self, key: bytes, value: bytes | memoryview, reservation: Reservation | None, tenant: bytes
    ) -> bool:
        """Admit a verified value; True if it is here afterwards."""
        if reservation is not None and (reservation.key != key or reservation.size != len(value)):
            reservation.release()
        if reservation is not None and reservation.over:
            reservation = None
        if self._health.off is not None:
            return False
        try:
            if not self.remove_suspect(key):
                return False
            if self._files.here(key):
                if reservation is not None:
                    reservation.release()
                return True
        except OSError as error:
            self._health.fail(error)
            return False
        held = reservation or self.reserve(key, len(value))
        if held is None:
            return False
        with held:
            done = self._store(held, value, tenant)
        if done:
            self.admitted += 1
        else:
            self.refused += 1
        return done

    def remove_suspect(self, key: bytes) -> bool:
        """Remove `key` if it is a suspect; False if the lock was not got."""
        while key in self._suspects:
            if not self._shared.settle():
                return False
        return True

    def _store(self, held: Reservation, value: bytes | memoryview, tenant: bytes) -> bool:
        generation = held.generation
        if generation is not self._shared.generation:
            return False  # its space was lost with its index during the download
        slot = self._slot(generation)
        if slot is None:
            return False
        occupied = self._publish(generation, slot, held, value)
        if occupied is None:
            generation.arrivals.slots.free(slot)  # last: the next value in the slot gets its files too
            return False
        held.used()
        arrived = Arrived(slot, held.key, held.size, held.charge, occupied, tenant)
        if not generation.arrivals.add(arrived):
            self._suspects.add(held.key)  # the new index has no entry for it
            return False
        self._uses.add(held.key)
        if generation.arrivals.due:
            with self._shared.transaction() as transaction:
                if transaction is not None:
                    self._shared.generation.pending.fill(transaction, 0)
        return True

    def _slot(self, generation: IndexGeneration) -> int | None:
        slot = generation.arrivals.slots.take()
        if slot is None:
            self._shared.settle()  # frees the slots of values that have arrived
            slot = generation.arrivals.slots.take()
        return slot

    def _publish(
        self, generation: IndexGeneration, slot: int, held: Reservation, value: bytes | memoryview
    ) -> int | None:
        """Give the value its file under data/; returns the bytes of disk it occupies. None if it has no file:
        the disk failed, too little space was reserved, or another generation of the index is in use."""
        tmp = journal.tmp_name(generation.owner, slot)
        try:
            if not generation.journal.arriving(slot, held.key):
                return None
            occupied = self._write(tmp, held, value)
            if occupied is None or generation is not self._shared.generation:
                self._files.discard_tmp(tmp)
                return None
            self._files.publish(tmp, held.key)
        except OSError as error:
            self._health.fail(error)
            self._suspects.add(held.key)  # interrupted: the next transaction examines its files
            with suppress(OSError):
                self._files.discard_tmp(tmp)
            return None
        return occupied

    def _write(self, tmp: str, held: Reservation, value: bytes | memoryview) -> int | None:
        """The bytes of disk that the value occupies; None if they are more than were reserved."""
        try:
            if held.recycled is not None:
                occupied = self._write_over(tmp, held, held.recycled, value)
            else:
                occupied = self._files.write(tmp, held.key, value)
        except OSError as error:
            # The disk is full of other data although the account has room. Evict as much, try again.
            if error.errno not in FULL or not self._room.evict(Shortfall(held.charge, 1)):
                raise
            occupied = self._files.write(tmp, held.key, value)
        return max(occupied, self._files.rounded(held.size)) if occupied <= held.charge else None

    def _write_over(self, tmp: str, held: Reservation, slot: int, value: bytes | memoryview) -> int:
        held.recycled = None
        generation = held.generation
        spare = generation.spares.name(slot)
        try:
            occupied = self._files.write_over(spare, held.key, value)
            self._files.rename_tmp(spare, tmp)
        finally:
            generation.allowance.slots.free(slot)
        return occupied
