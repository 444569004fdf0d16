"""The table of values that may be evicted, by their ticks, within one transaction."""

from collections.abc import Iterator

import lmdb

from lazyfs_cache.index.faults import IndexDamaged
from lazyfs_cache.index.rows import LARGEST, U64, Sums
from lazyfs_cache.index.tables import Tables
from lazyfs_cache.policy.eviction import Queued


class Queue:
    """The rows of the queue. `Transaction` keeps the entries in step with them."""

    def __init__(self, tables: Tables, txn: "lmdb.Transaction[bytes]", sums: Sums) -> None:
        self._table = tables.queue
        self._txn = txn
        self._sums = sums
        self._free_after: dict[int, int] = {}
        """For ticks that many values ask for (files of one age are not rare): the tick from which to look for
        a free one."""

    def add(self, tick: int, charge: int, key: bytes, *, newest: bool = False) -> int:
        """Put a value into the queue. Returns its tick, which is moved on if another value has it. `newest`:
        no value in the queue has a later tick."""
        row = U64.pack(charge) + key
        wanted, tick = tick, self._free_after.get(tick, tick)
        while not self._txn.put(U64.pack(tick), row, db=self._table, overwrite=False, append=newest):
            # another value was used or put in the same microsecond
            tick = max(tick, self._last()) + 1 if newest else tick + 1
        if tick != wanted:
            self._free_after[wanted] = tick + 1
        self._sums.tick = max(self._sums.tick, tick)
        return tick

    def move_to_end(self, before: int, charge: int, key: bytes) -> int:
        """Make the value with the tick `before` the most recently used one. Returns its new tick."""
        sums, txn, table = self._sums, self._txn, self._table
        sums.tick = tick = sums.tick + 1
        txn.delete(U64.pack(before), db=table)
        if txn.put(U64.pack(tick), U64.pack(charge) + key, db=table, overwrite=False, append=True):
            return tick
        return self.add(tick, charge, key, newest=True)

    def _last(self) -> int:
        """Returns the last tick in the queue. Raises IndexDamaged if it is later than any possible tick."""
        with self._txn.cursor(db=self._table) as cursor:
            last = bytes(cursor.key()) if cursor.last() else b""
        if len(last) != U64.size or last >= U64.pack(LARGEST):
            raise IndexDamaged(f"the queue ends with {last.hex()}, which is no time")
        return int.from_bytes(last, "big")

    def remove(self, tick: int) -> None:
        self._txn.delete(U64.pack(tick), db=self._table)

    def queued_from(self, tick: int) -> Iterator[Queued]:
        """The values with this tick and later ones, in their order. Take the wanted ones before adding or
        removing any."""
        with self._txn.cursor(db=self._table) as cursor:
            if not cursor.set_range(U64.pack(tick)):
                return
            for found, row in cursor.iternext():
                yield Queued(int.from_bytes(found, "big"), int.from_bytes(row[:8], "big"), row[8:])

    def tick_after(self, tick: int) -> int:
        """The next tick in the queue; after the newest one 0, which stands for the queue's beginning."""
        with self._txn.cursor(db=self._table) as cursor:
            found = cursor.set_range(U64.pack(tick + 1))
            return int.from_bytes(cursor.key(), "big") if found else 0
