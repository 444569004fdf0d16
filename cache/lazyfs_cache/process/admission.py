"""Admitting values: space first, then the bytes, then the name, then the entry in the index.

    1. draw as much space from the allowance as the value's file can take at most; if the allowance has too
       little, a transaction evicts values and fills it
    2. note the key in the journal, write the sealed value to tmp/, rename it into data/: no lock
    3. with the next transaction (16 values, or two seconds), enter it into the index, charged with the bytes
       that it occupies

Until step 3 the value is charged as a part of the allowance. A process killed before step 3 leaves a
journal that names the key, and the charge stays until another process has cleaned up.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from lazyfs_cache.files import journal, layout
from lazyfs_cache.policy.allowance import Drawn
from lazyfs_cache.policy.limits import Shortfall
from lazyfs_cache.process import spare_files
from lazyfs_cache.process.arrivals import Arrived
from lazyfs_cache.process.cache_parts import CacheParts
from lazyfs_cache.process.health import FULL
from lazyfs_cache.process.index_generation import IndexGeneration
from lazyfs_cache.process.reservation import Reservation


class Admission:
    """The admission of values. Thread-safe."""

    def __init__(self, parts: CacheParts) -> None:
        self._shared, self._room, self._uses, self._suspects, self._wake = parts
        self._files = parts.shared.files
        self._health = parts.shared.health
        self.admitted = self.refused = 0

    # -- space -------------------------------------------------------------------------------------------

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Holds space for a value before its download starts. Returns None if there is no space: the caller
        goes on without the cache."""
        charge = self._files.most_for_value(size)
        if self._health.off is None and 0 < len(key) <= layout.MAX_KEY:
            found = self._draw(charge, write_over=size < spare_files.LARGEST)
            if found is not None:
                return self._reservation(key, size, charge, *found)
        self.refused += 1
        return None

    def _reservation(
        self, key: bytes, size: int, charge: int, drawn: Drawn, generation: IndexGeneration
    ) -> Reservation:
        generation.spares.discard(drawn.gone)
        return Reservation(key, size, charge, drawn, generation, self._wake)

    def _reserve_many(self, sizes: dict[bytes, int]) -> list[Reservation]:
        """Holds space for several values, in one transaction at most. If they do not fit together, those that
        have no space yet are tried one by one. Values that get no space are left out."""
        charges = {key: self._files.most_for_value(size) for key, size in sizes.items()}
        generation = self._shared.generation
        held: list[Reservation] = []
        regular = all(0 < len(key) <= layout.MAX_KEY for key in sizes)
        if len(sizes) > 1 and regular and not self._shared.stale():
            filled = False
            while charges:
                key = next(iter(charges))
                small = sizes[key] < spare_files.LARGEST
                drawn = generation.allowance.draw(charges[key], write_over=small)
                if drawn is not None:
                    held.append(self._reservation(key, sizes[key], charges.pop(key), drawn, generation))
                elif (
                    filled
                    or not self._fill(sum(charges.values()))
                    or self._shared.generation is not generation
                ):
                    break
                else:
                    filled = True
        alone = [self.reserve(key, sizes[key]) for key in charges]
        return held + [one for one in alone if one is not None]

    def _fill(self, charge: int, timeout: float | None = None) -> bool:
        """Adds `charge` bytes, in a transaction, to the space that the index holds for this process.
        `timeout`: seconds to wait for the index lock. Returns True if it is worth drawing from the allowance
        again, because bytes were added or values were evicted."""
        shared = self._shared
        progress = False
        with shared.transaction(timeout) as transaction:
            if transaction is not None:
                generation = shared.generation
                if generation.limits.possible(transaction.sums, charge):
                    progress = generation.pending.fill(transaction, charge)
        return progress and transaction is not None and transaction.committed

    def _draw(self, charge: int, *, write_over: bool) -> tuple[Drawn, IndexGeneration] | None:
        """Draws a promise of `charge` bytes from the allowance, which is filled as needed. Returns the
        promise and the generation of the index that holds its bytes; None if they cannot be freed in time.
        `write_over`: True if the value may be written over a spare file, that of an evicted value."""
        shared = self._shared
        deadline = time.monotonic() + shared.timeout
        while True:
            generation = shared.generation
            if not shared.stale():
                drawn = generation.allowance.draw(charge, write_over=write_over)
                if drawn is not None:
                    return drawn, generation
            if not self._fill(charge, max(deadline - time.monotonic(), 0)):
                return None

    # -- values ------------------------------------------------------------------------------------------

    def put(
        self, key: bytes, value: bytes | memoryview, reservation: Reservation | None, tenant: bytes
    ) -> bool:
        """Admits a verified value. Returns True if it is here afterwards."""
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
                self._uses.add(key)
                if reservation is not None:
                    reservation.release()
                return True
        except OSError as error:
            self._health.fail(error)
            return False
        held = reservation or self.reserve(key, len(value))
        if held is None:
            return False
        return bool(self._store([held], {key: value}, tenant))

    def put_many(self, values: Sequence[tuple[bytes, bytes | memoryview]], tenant: bytes) -> list[bool]:
        """Admits several verified values. Returns a list with True for each value that is here afterwards."""
        here: set[bytes] = set()
        wanted: dict[bytes, bytes | memoryview] = {}
        for key, value in values:
            try:
                if self._health.off is not None or not self.remove_suspect(key):
                    continue
                if self._files.here(key):
                    self._uses.add(key)  # so that it is not the first to be evicted for the others
                    here.add(key)
                else:
                    wanted[key] = value
            except OSError as error:
                self._health.fail(error)
        if wanted:
            held = self._reserve_many({key: len(value) for key, value in wanted.items()})
            stored = self._store(held, wanted, tenant)
            # values that were here may have been evicted for the others
            here = stored | {key for key in here if self._still(key)}
        return [key in here for key, _ in values]

    def _still(self, key: bytes) -> bool:
        try:
            return self._files.here(key)
        except OSError as error:
            self._health.fail(error)
            return False

    def remove_suspect(self, key: bytes) -> bool:
        """Removes the value of `key` if it was found damaged, or if its admission failed half-way. Returns
        False if the index lock could not be taken."""
        while key in self._suspects:
            if not self._shared.settle():
                return False
        return True

    def _store(
        self, held: list[Reservation], values: Mapping[bytes, bytes | memoryview], tenant: bytes
    ) -> set[bytes]:
        """Writes the values' files; their entries in the index follow with the next transaction. Returns the
        keys of the values that now have files. The reservations end."""
        stored: set[bytes] = set()
        try:
            for generation, slots, noted in self._noted(held):
                for slot, one in zip(slots, noted, strict=True):
                    if self._store_noted(generation, slot, one, values[one.key], tenant):
                        stored.add(one.key)
        finally:
            for one in held:
                one.release()
        if self._shared.generation.arrivals.due:
            with self._shared.transaction() as transaction:
                if transaction is not None:
                    self._shared.generation.pending.fill(transaction, 0)
        self.admitted += len(stored)
        self.refused += len(held) - len(stored)
        return stored

    def _noted(
        self, held: list[Reservation]
    ) -> Iterator[tuple[IndexGeneration, list[int], list[Reservation]]]:
        """Notes the keys in the journal, as many at once as it has free slots. Yields (generation, slots,
        reservations) of each such group."""
        left = held
        while left:
            generation = self._shared.generation
            # a reservation of an earlier generation lost its space with that index during the download
            left = [one for one in left if one.generation is generation]
            slots = self._slots(generation, len(left))
            group, left = left[: len(slots)], left[len(slots) :]
            if not group:
                return
            noted = False
            try:
                noted = generation.journal.arriving(slots, [one.key for one in group])
            except OSError as error:
                self._health.fail(error)
            if not noted:
                for slot in slots:
                    generation.arrivals.slots.free(slot)
                return
            yield generation, slots, group

    def _store_noted(
        self,
        generation: IndexGeneration,
        slot: int,
        held: Reservation,
        value: bytes | memoryview,
        tenant: bytes,
    ) -> bool:
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
        return True

    def _slots(self, generation: IndexGeneration, count: int) -> list[int]:
        """Takes up to `count` free slots of the journal. If none is free, first enters the values that have
        arrived, which frees theirs."""
        free = generation.arrivals.slots
        slots = free.take_many(count)
        if not slots and count:
            self._shared.settle()  # frees the slots of values that have arrived
            slots = free.take_many(count)
        return slots

    def _publish(
        self, generation: IndexGeneration, slot: int, held: Reservation, value: bytes | memoryview
    ) -> int | None:
        """Writes the value's file and moves it into data/. Returns the bytes of disk that the file occupies;
        None if there is no file now: the disk failed, too little space was reserved, or another generation of
        the index is in use."""
        tmp = journal.tmp_name(generation.owner, slot)
        try:
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
        """Writes the value to tmp/`tmp`. Returns the bytes of disk that it occupies; None if they are more
        than were reserved."""
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
