"""One transaction of the index: the entries (rows) of values, their place in the queue, pins, and space held
for processes.

A transaction keeps the tables and the totals in step. Its caller handles the files.

The holder of a pin is the owner number of a process, or `rows.KEPT` for all pin sets. The pin's label is the
name that the process chose, or the pin set's name.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import lmdb

from lazyfs_cache.index import tenants
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
from lazyfs_cache.index.tenant_queue import TenantQueue
from lazyfs_cache.policy import eviction
from lazyfs_cache.policy.eviction import Queued
from lazyfs_cache.policy.shares import Stake, by_share
from lazyfs_cache.policy.sizes import PASSES


class Transaction:
    """One change of the index, made by `Index.transaction`."""

    def __init__(self, tables: Tables, txn: "lmdb.Transaction[bytes]") -> None:
        self._tables = tables
        self._txn = txn
        self.sums = read_sums(txn.get(SUMS, db=tables.main))
        self.sums.tick = max(self.sums.tick, time.time_ns() // 1000)
        self.committed = False
        self._queue = Queue(tables, txn, self.sums)
        self._pins = PinTables(tables, txn)

    def write_sums(self) -> None:
        """Writes the totals, as the last step of a transaction."""
        self._txn.put(SUMS, encode_sums(self.sums), db=self._tables.main)

    def _next_tick(self) -> int:
        self.sums.tick += 1
        return self.sums.tick

    # -- entries -------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        """Returns the entry of a value; None if it is not here."""
        return entry_of(self._txn.get(key, db=self._tables.entries), self.sums.tenants)

    def _write(self, key: bytes, entry: Entry) -> None:
        self._txn.put(key, entry_row(entry, self.sums.tenants), db=self._tables.entries)

    def insert(
        self, key: bytes, size: int, charge: int, used: int | None = None, tenant: bytes = b""
    ) -> None:
        """Adds a value that has no entry, as the most recently used one, or as last used at `used`
        (microseconds). It belongs to the tenant of that name. A value that a pin set names is pinned from the
        start."""
        txn, table, sums = self._txn, self._tables.entries, self.sums
        number = tenants.number_of(sums.tenants, tenant)
        pins = self._pins.sets_of(key)
        tick = self._next_tick() if used is None else used
        if pins:
            sums.pinned += charge
        else:
            tick = self._queue.add(number, tick, charge, key, newest=used is None)
        entry = Entry(tick, size, charge, pins, False, number)
        row = entry_row(entry, sums.tenants)
        if not txn.put(key, row, db=table, overwrite=False):
            txn.put(key, row, db=table)
            sums.ghosts -= 1  # the value's own row, which was still there
        sums.entries += 1
        sums.stored += charge
        tenants.enter(sums.tenants, entry, tick)

    def charge_at_least(self, key: bytes, charge: int) -> None:
        """Raises the charge of a value to `charge` bytes, unless it is higher already."""
        entry = self.entry(key)
        more = 0 if entry is None else charge - entry.charge
        if entry is None or more <= 0:
            return
        self.sums.stored += more
        self.sums.tenants[entry.tenant].stored += more
        tick = entry.tick
        if entry.pins:
            self.sums.pinned += more
        else:
            self._queue.remove(entry.tenant, tick)
            tick = self._queue.add(entry.tenant, tick, charge, key)
        self._write(key, entry._replace(charge=charge, tick=tick))

    def touch(self, key: bytes) -> None:
        """Notes a use of the value: it goes to the end of the queue (LRU), or is marked (SIEVE). Does nothing
        if it is not here."""
        entry = self.entry(key)
        if entry is None:
            return
        self.sums.tenants[entry.tenant].used = self.sums.tick
        if self.sums.sieve:
            if not entry.visited:
                self._write(key, entry._replace(visited=True))
            return
        before, size, charge, pins, visited, tenant = entry
        queue = self._queue
        tick = self._next_tick() if pins else queue.move_to_end(tenant, before, charge, key)
        self._write(key, Entry(tick, size, charge, pins, visited, tenant))

    def forget(self, key: bytes, entry: Entry) -> None:
        """Removes a value that was found missing or damaged, and the pins of processes on it. The pins of pin
        sets stay, in case the value returns."""
        if entry.pins:
            self._pins.remove_processes(key)
            self.sums.pinned -= entry.charge
        else:
            self._queue.remove(entry.tenant, entry.tick)
        self._txn.delete(key, db=self._tables.entries)
        self.sums.entries -= 1
        self.sums.stored -= entry.charge
        tenants.leave(self.sums.tenants, entry.tenant, entry.charge)
        self._sweep(1)

    # -- eviction ------------------------------------------------------------------------------------

    def next_out(self, passes: int = PASSES) -> Iterator[Queued]:
        """Yields the values that may be evicted, in the order in which they should go. The caller must have
        taken all it wants before any other change. `passes`: the largest number of values that SIEVE's hands
        pass over, for all tenants together."""
        sums = self.sums
        holding = [(number, tenant) for number, tenant in enumerate(sums.tenants) if tenant.entries]
        stakes = []
        for number, tenant in holding:
            queue = TenantQueue(number, tenant, self._queue, self.entry, self._write)
            order = eviction.sieve(queue, passes // len(holding)) if sums.sieve else eviction.lru(queue)
            stakes.append(Stake(tenant.stored, order, tenant.used if sums.sieve else None))
        return by_share(stakes, sums.tick)

    def queued(self, tenant: int = 0) -> Iterator[Queued]:
        """Yields all values of a tenant that may be evicted, in the order of their ticks."""
        return self._queue.queued_from(tenant, 0)

    def evict(self, values: Sequence[Queued]) -> None:
        """Removes the first values of `next_out` and frees their charges. The caller has unlinked their
        files.

        LRU leaves their rows in `entries` as ghosts. Keys are spread over the whole table, so to delete these
        rows at once would copy one leaf for each, and its branch too in a large table: for each of 64 values,
        2.3 pages at a million entries, 1.2 at 10,000. The sweep deletes ghosts that lie side by side: 0.4
        pages.
        """
        txn, table, sums = self._txn, self._tables.entries, self.sums
        for tick, charge, key, number in values:
            self._queue.remove(number, tick)
            if sums.sieve or tick <= sums.tenants[number].floor:
                txn.delete(key, db=table)
            else:
                sums.tenants[number].floor = tick
                sums.ghosts += 1
            sums.entries -= 1
            sums.stored -= charge
            tenants.leave(sums.tenants, number, charge)
        self._sweep(len(values))

    def _sweep(self, gone: int) -> None:
        """Deletes the ghosts among the next rows of `entries`: SWEPT rows for each of the `gone` values. Goes
        on where the last sweep ended, and from the table's end to its beginning."""
        sums, table = self.sums, self._tables.entries
        left = min(gone * SWEPT, sums.entries + sums.ghosts) if sums.ghosts else 0
        first = [first_above(number, tenant.floor) for number, tenant in enumerate(sums.tenants)]
        ghosts: list[bytes] = []
        with self._txn.cursor(db=table) as cursor:
            for start in (sums.sweep, b""):
                if left and cursor.set_range(start):
                    rows = list(islice(cursor.iternext(), left))
                    left -= len(rows)
                    sums.sweep = rows[-1][0] + b"\0"
                    ghosts += [key for key, row in rows if row < first[row[0]]]
        for key in ghosts:
            self._txn.delete(key, db=table)
        sums.ghosts -= len(ghosts)

    # -- pins ----------------------------------------------------------------------------------------

    def pin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Pins a value for (holder, label). Returns False if it was pinned already. Pin sets may name values
        that are not here."""
        added = self._pins.add(key, holder, label)
        if added:
            self._count_pins(key, 1)
        return added

    def unpin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Undoes `pin`; the value keeps its place in the order of use. Returns False if it had no such
        pin."""
        removed = self._pins.remove(key, holder, label)
        if removed:
            self._count_pins(key, -1)
        return removed

    def pins_of(self, holder: int, label: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """Returns (label, key) of every pin of a holder; with `label`, only of the pins with this label."""
        return self._pins.of(holder, label)

    def _count_pins(self, key: bytes, more: int) -> None:
        entry = self.entry(key)
        if entry is None:
            return
        pins, tick = entry.pins + more, entry.tick
        if pins and not entry.pins:
            self._queue.remove(entry.tenant, tick)
            self.sums.pinned += entry.charge
        elif entry.pins and not pins:
            tick = self._queue.add(entry.tenant, tick, entry.charge, key)
            self.sums.pinned -= entry.charge
        self._write(key, entry._replace(tick=tick, pins=pins))

    # -- processes and directories -------------------------------------------------------------------

    def add_owner(self, above: int) -> int:
        """Adds a process. Returns its owner number, which is larger than `above` and than every earlier
        number."""
        sums = self.sums
        sums.last_owner = max(sums.last_owner, above) + 1
        self._txn.put(U64.pack(sums.last_owner), U64.pack(0), db=self._tables.owners)
        return sums.last_owner

    def hold(self, owner: int, more: int) -> None:
        """Adds `more` bytes to the space that is held for a process, and charges them. With a negative
        `more`, takes bytes away from it."""
        row = self._txn.get(U64.pack(owner), db=self._tables.owners)
        if row is None:
            raise IndexDamaged(f"owner {owner} is missing")
        self._txn.put(U64.pack(owner), U64.pack(U64.unpack(row)[0] + more), db=self._tables.owners)
        self.sums.reserved += more

    def drop_owner(self, owner: int) -> None:
        """Removes a process that has ended, and frees the bytes that were held for it."""
        row = self._txn.pop(U64.pack(owner), db=self._tables.owners)
        if row is not None:
            self.sums.reserved -= U64.unpack(row)[0]

    def all_owners(self) -> list[int]:
        """Returns the owner numbers of the processes that have the cache open, and of those that died with it
        open."""
        with self._txn.cursor(db=self._tables.owners) as cursor:
            return [int.from_bytes(owner, "big") for owner in cursor.iternext(keys=True, values=False)]

    def set_directory(self, number: int, occupied: int) -> None:
        """Notes the bytes of disk that fan-out directory `number`, one of the 256 under data/, now occupies
        itself."""
        name = bytes((number,))
        row = self._txn.get(name, db=self._tables.folders)
        before = int.from_bytes(row, "big") if row else 0
        if before != occupied:
            self._txn.put(name, U64.pack(occupied), db=self._tables.folders)
            self.sums.directories += occupied - before
