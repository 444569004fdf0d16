"""One transaction of the index: entries, their place in the queue, pins, and space held by processes.

The tables and the sums are kept in step. Its callers handle the files.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import lmdb

from lazyfs_cache.index.faults import IndexDamaged
from lazyfs_cache.index.pin_tables import PinTables
from lazyfs_cache.index.queue import Queue
from lazyfs_cache.index.rows import (
    SUMS,
    SWEPT,
    U64,
    Entry,
    encode_sums,
    entry_of,
    entry_row,
    first_above,
    read_sums,
)
from lazyfs_cache.index.tables import Tables
from lazyfs_cache.policy import eviction
from lazyfs_cache.policy.eviction import Queued
from lazyfs_cache.policy.sizes import PASSES


class Transaction:
    """One change of the index, made by `Index.transaction`. It is the queue of values of SIEVE and LRU
    (`policy.eviction`)."""

    def __init__(self, tables: Tables, txn: "lmdb.Transaction[bytes]") -> None:
        self._tables = tables
        self._txn = txn
        self.sums = read_sums(txn.get(SUMS, db=tables.main))
        self.sums.tick = max(self.sums.tick, time.time_ns() // 1000)
        self.committed = False
        self._queue = Queue(tables, txn, self.sums)
        self._pins = PinTables(tables, txn)

    def write_sums(self) -> None:
        """Write the sums, as the last step of a transaction."""
        self._txn.put(SUMS, encode_sums(self.sums), db=self._tables.main)

    def _next_tick(self) -> int:
        self.sums.tick += 1
        return self.sums.tick

    # -- entries -------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        """The entry of a value; None if it is not here."""
        return entry_of(self._txn.get(key, db=self._tables.entries), self.sums.floor)

    def _write(self, key: bytes, entry: Entry) -> None:
        self._txn.put(key, entry_row(entry, self.sums.floor), db=self._tables.entries)

    def insert(self, key: bytes, size: int, charge: int, used: int | None = None) -> None:
        """Add a value that has no entry, as the most recently used one, or as last used at `used`
        (microseconds). A value that a pin set names is pinned from the start."""
        txn, table, sums = self._txn, self._tables.entries, self.sums
        pins = self._pins.sets_of(key)
        tick = self._next_tick() if used is None else used
        if pins:
            sums.pinned += charge
        else:
            tick = self._queue.add(tick, charge, key, newest=used is None)
        row = entry_row(Entry(tick, size, charge, pins, False), sums.floor)
        if not txn.put(key, row, db=table, overwrite=False):
            txn.put(key, row, db=table)
            sums.ghosts -= 1  # the value's own row, which was still there
        sums.entries += 1
        sums.stored += charge

    def charge_at_least(self, key: bytes, charge: int) -> None:
        """Charge a value with so many bytes, unless it is charged with more."""
        entry = self.entry(key)
        if entry is None or entry.charge >= charge:
            return
        self.sums.stored += charge - entry.charge
        tick = entry.tick
        if entry.pins:
            self.sums.pinned += charge - entry.charge
        else:
            self._queue.remove(tick)
            tick = self._queue.add(tick, charge, key)
        self._write(key, entry._replace(charge=charge, tick=tick))

    def touch(self, key: bytes) -> None:
        """Note a use of the value: it goes to the end of the queue (LRU), or is marked (SIEVE). Does nothing
        if it is not here."""
        entry = self.entry(key)
        if entry is None:
            return
        if self.sums.sieve:
            if not entry.visited:
                self._write(key, entry._replace(visited=True))
            return
        tick = self._next_tick()
        self._write(key, entry._replace(tick=tick))
        if not entry.pins:
            self._queue.remove(entry.tick)
            self._queue.add(tick, entry.charge, key, newest=True)

    def forget(self, key: bytes, entry: Entry) -> None:
        """Remove a value that was found missing or damaged, with the pins of processes on it; those of pin
        sets stay for its return."""
        if entry.pins:
            self._pins.remove_processes(key)
            self.sums.pinned -= entry.charge
        else:
            self._queue.remove(entry.tick)
        self._txn.delete(key, db=self._tables.entries)
        self.sums.entries -= 1
        self.sums.stored -= entry.charge
        self._sweep(1)

    # -- eviction ------------------------------------------------------------------------------------

    def next_out(self, passes: int = PASSES) -> Iterator[Queued]:
        """The values that may be evicted, in the order in which they should go. Take the wanted ones before
        any other change. `passes`: see `eviction.sieve`."""
        return eviction.sieve(self, passes) if self.sums.sieve else eviction.lru(self)

    def evict(self, values: Sequence[Queued]) -> None:
        """Remove the first values of `next_out` and free their charges; unlink their files first.

        LRU leaves their rows in `entries` as ghosts. Keys are spread over the whole table, so deleting these
        rows at once copies a leaf for each, and its branch where the table is large: of 64 values, 2.3 pages
        each at a million entries, 1.2 at 10,000. The sweep deletes those that lie side by side: 0.4 pages.
        """
        txn, table, sums = self._txn, self._tables.entries, self.sums
        for tick, charge, key in values:
            self._queue.remove(tick)
            if sums.sieve or tick <= sums.floor:
                txn.delete(key, db=table)
            else:
                sums.floor = tick
                sums.ghosts += 1
            sums.entries -= 1
            sums.stored -= charge
        self._sweep(len(values))

    def _sweep(self, gone: int) -> None:
        """Go on through `entries`, in a circle, by SWEPT rows for each value that went, and delete the
        ghosts."""
        sums, table = self.sums, self._tables.entries
        left = min(gone * SWEPT, sums.entries + sums.ghosts) if sums.ghosts else 0
        first = first_above(sums.floor)
        ghosts: list[bytes] = []
        with self._txn.cursor(db=table) as cursor:
            for start in (sums.sweep, b""):
                if left and cursor.set_range(start):
                    rows = list(islice(cursor.iternext(), left))
                    left -= len(rows)
                    sums.sweep = rows[-1][0] + b"\0"
                    ghosts += [key for key, row in rows if row < first]
        for key in ghosts:
            self._txn.delete(key, db=table)
        sums.ghosts -= len(ghosts)

    @property
    def hand(self) -> int:
        """SIEVE: the tick that the hand has reached."""
        return self.sums.hand

    @hand.setter
    def hand(self, tick: int) -> None:
        self.sums.hand = tick

    def queued_from(self, tick: int) -> Iterator[Queued]:
        """The values that may be evicted with this tick and later ones, in their order."""
        return self._queue.queued_from(tick)

    def tick_after(self, tick: int) -> int:
        """The next tick in the queue; if there is none 0, which stands for the queue's beginning."""
        return self._queue.tick_after(tick)

    def marked(self, value: Queued) -> bool:
        """SIEVE: True if the value was used since it came or the hand last passed it."""
        return self._entry_queued(value).visited

    def clear_mark(self, value: Queued) -> None:
        """SIEVE: the hand passes the value."""
        self._write(value.key, self._entry_queued(value)._replace(visited=False))

    def _entry_queued(self, value: Queued) -> Entry:
        entry = self.entry(value.key)
        if entry is None:
            raise IndexDamaged(f"the queue names {value.key.hex()}, which has no entry")
        return entry

    # -- pins ----------------------------------------------------------------------------------------

    def pin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Pin a value for (holder, label); False if it already was. Pin sets may name values that are not
        here."""
        added = self._pins.add(key, holder, label)
        if added:
            self._count_pins(key, 1)
        return added

    def unpin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Undo `pin`; the value keeps its place in the order of use. False if it had no such pin."""
        removed = self._pins.remove(key, holder, label)
        if removed:
            self._count_pins(key, -1)
        return removed

    def pins_of(self, holder: int, label: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """(label, key) of every pin of a holder, or of those with one label."""
        return self._pins.of(holder, label)

    def _count_pins(self, key: bytes, more: int) -> None:
        entry = self.entry(key)
        if entry is None:
            return
        pins, tick = entry.pins + more, entry.tick
        if pins and not entry.pins:
            self._queue.remove(tick)
            self.sums.pinned += entry.charge
        elif entry.pins and not pins:
            tick = self._queue.add(tick, entry.charge, key)
            self.sums.pinned -= entry.charge
        self._write(key, entry._replace(tick=tick, pins=pins))

    # -- processes and directories -------------------------------------------------------------------

    def add_owner(self, above: int) -> int:
        """Give a process its owner number: larger than every earlier one, and than `above`."""
        sums = self.sums
        sums.last_owner = max(sums.last_owner, above) + 1
        self._txn.put(U64.pack(sums.last_owner), U64.pack(0), db=self._tables.owners)
        return sums.last_owner

    def hold(self, owner: int, more: int) -> None:
        """Hold `more` bytes for a process (fewer, if negative); they are charged."""
        row = self._txn.get(U64.pack(owner), db=self._tables.owners)
        if row is None:
            raise IndexDamaged(f"owner {owner} is missing")
        self._txn.put(U64.pack(owner), U64.pack(U64.unpack(row)[0] + more), db=self._tables.owners)
        self.sums.reserved += more

    def drop_owner(self, owner: int) -> None:
        """Remove a process that has ended, and free the bytes that were held for it."""
        row = self._txn.pop(U64.pack(owner), db=self._tables.owners)
        if row is not None:
            self.sums.reserved -= U64.unpack(row)[0]

    def all_owners(self) -> list[int]:
        """The owner numbers of the processes that have the cache open, and of those that died with it
        open."""
        with self._txn.cursor(db=self._tables.owners) as cursor:
            return [int.from_bytes(owner, "big") for owner in cursor.iternext(keys=True, values=False)]

    def set_directory(self, number: int, occupied: int) -> None:
        """Note that fan-out directory `number` now occupies that many bytes."""
        name = bytes((number,))
        row = self._txn.get(name, db=self._tables.folders)
        before = int.from_bytes(row, "big") if row else 0
        if before != occupied:
            self._txn.put(name, U64.pack(occupied), db=self._tables.folders)
            self.sums.directories += occupied - before
