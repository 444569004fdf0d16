"""What can be done within one transaction of the index."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import lmdb

from lazyfs_cache.index.rows import (
    KEPT,
    PASSES,
    SUMS,
    SWEPT,
    U32,
    U64,
    Entry,
    IndexDamaged,
    Queued,
    Sums,
    decode_sums,
    entry_of,
    entry_row,
    first_above,
    pin_row,
)


class Tables(Protocol):
    """The handles of the tables; see `rows`."""

    entries: lmdb._Database
    queue: lmdb._Database
    pins: lmdb._Database
    kept: lmdb._Database
    owners: lmdb._Database
    folders: lmdb._Database
    main: lmdb._Database


class Change:
    """What can be done within one transaction."""

    def __init__(self, index: Tables, txn: "lmdb.Transaction[bytes]") -> None:
        self._index = index
        self._txn = txn
        packed = txn.get(SUMS, db=index.main)
        self.sums = decode_sums(packed) if packed else Sums()
        self.sums.tick = max(self.sums.tick, time.time_ns() // 1000)
        self.committed = False
        self._free_after: dict[int, int] = {}
        """Where ticks that many values share were last found free: files of one age are not rare."""

    def _tick(self) -> int:
        self.sums.tick += 1
        return self.sums.tick

    # -- entries -------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        return entry_of(self._txn.get(key, db=self._index.entries), self.sums.floor)

    def _write(self, key: bytes, entry: Entry) -> None:
        self._txn.put(key, entry_row(entry, self.sums.floor), db=self._index.entries)

    def _enqueue(self, tick: int, charge: int, key: bytes, *, newest: bool = False) -> int:
        """Let a value be evicted in its turn; returns its tick, which is moved on if another value has it."""
        row = U64.pack(charge) + key
        wanted, tick = tick, self._free_after.get(tick, tick)
        while not self._txn.put(U64.pack(tick), row, db=self._index.queue, overwrite=False, append=newest):
            tick += 1  # the other one was used, or put, in the same microsecond
        if tick != wanted:
            self._free_after[wanted] = tick + 1
        self.sums.tick = max(self.sums.tick, tick)
        return tick

    def insert(self, key: bytes, size: int, charge: int, used: int | None = None) -> None:
        """Add a value, which must have no entry: as the most recently used one, or as last used at `used`
        (microseconds). A value that a pin set names is pinned from the start."""
        txn, index, sums = self._txn, self._index, self.sums
        row = txn.get(key, db=index.kept)
        pins = U32.unpack(row)[0] if row else 0
        tick = self._tick() if used is None else used
        if pins:
            sums.pinned += charge
        else:
            tick = self._enqueue(tick, charge, key, newest=used is None)
        row = entry_row(Entry(tick, size, charge, pins, False), sums.floor)
        if not txn.put(key, row, db=index.entries, overwrite=False):
            txn.put(key, row, db=index.entries)
            sums.ghosts -= 1  # its own, which was still there
        sums.entries += 1
        sums.stored += charge

    def evict(self, values: Sequence[Queued]) -> None:
        """Free the charges of the first values of `next_out`; unlink their files first.

        LRU leaves their rows in `entries` as ghosts. Keys are spread over the whole table, so deleting these
        rows at once copies a leaf for each, and its branch where the table is large: of 64 values, 2.3 pages
        each at a million entries, 1.2 at 10,000. The sweep deletes those that lie side by side: 0.4 pages.
        """
        txn, index, sums = self._txn, self._index, self.sums
        for tick, charge, key in values:
            txn.delete(U64.pack(tick), db=index.queue)
            if sums.sieve or tick <= sums.floor:
                txn.delete(key, db=index.entries)
            else:
                sums.floor = tick
                sums.ghosts += 1
            sums.entries -= 1
            sums.stored -= charge
        self._sweep(len(values))

    def _sweep(self, gone: int) -> None:
        """Go on through `entries`, and around, by SWEPT rows for each value that went; delete the ghosts."""
        sums = self.sums
        left = min(gone * SWEPT, sums.entries + sums.ghosts) if sums.ghosts else 0
        first = first_above(sums.floor)
        ghosts: list[bytes] = []
        with self._txn.cursor(db=self._index.entries) as cursor:
            for start in (sums.sweep, b""):
                if left and cursor.set_range(start):
                    rows = list(islice(cursor.iternext(), left))
                    left -= len(rows)
                    sums.sweep = rows[-1][0] + b"\0"
                    ghosts += [key for key, row in rows if row < first]
        for key in ghosts:
            self._txn.delete(key, db=self._index.entries)
        sums.ghosts -= len(ghosts)

    def forget(self, key: bytes, entry: Entry) -> None:
        """Free the charge of a value found missing or wrong; the pins of processes go with it, those of pin
        sets wait for its return."""
        if entry.pins:
            for holder, label, found in list(self._pin_rows(b"")):
                if found == key and holder != KEPT:
                    self._txn.delete(pin_row(holder, label, key), db=self._index.pins)
            self.sums.pinned -= entry.charge
        else:
            self._txn.delete(U64.pack(entry.tick), db=self._index.queue)
        self._txn.delete(key, db=self._index.entries)
        self.sums.entries -= 1
        self.sums.stored -= entry.charge
        self._sweep(1)

    def touch(self, key: bytes) -> None:
        """A value was used: it goes to the end of the queue (LRU), or is marked (SIEVE). Nothing happens if
        it is gone."""
        entry = self.entry(key)
        if entry is None:
            return
        if self.sums.sieve:
            if not entry.visited:
                self._write(key, entry._replace(visited=True))
            return
        tick = self._tick()
        self._write(key, entry._replace(tick=tick))
        if not entry.pins:
            self._txn.delete(U64.pack(entry.tick), db=self._index.queue)
            self._enqueue(tick, entry.charge, key, newest=True)

    def next_out(self, passes: int = PASSES) -> Iterator[Queued]:
        """The values that may be evicted, in the order in which they should go. Take what is wanted before
        changing anything else. SIEVE ends early, but not before the first, where it has passed over `passes`.
        """
        if self.sums.sieve:
            return self._sieved(passes)
        return self._queued(0)

    def _queued(self, start: int) -> Iterator[Queued]:
        with self._txn.cursor(db=self._index.queue) as cursor:
            if not cursor.set_range(U64.pack(start)):
                return
            for tick, row in cursor.iternext():
                yield Queued(int.from_bytes(tick, "big"), int.from_bytes(row[:8], "big"), row[8:])

    def _sieved(self, passes: int) -> Iterator[Queued]:
        """SIEVE (Zhang et al., NSDI 2024): from the hand towards newer values, and around; one that was used
        since the hand last passed is passed over, once. Each takes a mark from another leaf, so a change
        passes over so many at most: where that yielded nothing the next one goes all the same, and no
        eviction walks over a million entries."""
        taken: set[int] = set()
        begin, end = self.sums.hand, 1 << 63
        for start, stop in ((begin, end), (0, begin)) * 2:
            for value in self._queued(start):
                if value.tick >= stop:
                    break
                if value.tick in taken:
                    continue
                entry = self.entry(value.key)
                if entry is None:
                    raise IndexDamaged(f"the queue names {value.key.hex()}, which has no entry")
                if entry.visited and passes:
                    passes -= 1
                    self._write(value.key, entry._replace(visited=False))
                elif entry.visited and taken:
                    self.sums.hand = value.tick
                    return
                else:
                    taken.add(value.tick)
                    self.sums.hand = self._newer(value.tick)
                    yield value

    def _newer(self, tick: int) -> int:
        """The tick next in the queue; 0, where the queue begins, after the newest one."""
        with self._txn.cursor(db=self._index.queue) as cursor:
            found = cursor.set_range(U64.pack(tick + 1))
            return int.from_bytes(cursor.key(), "big") if found else 0

    # -- pins ----------------------------------------------------------------------------------------

    def pin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Pin a value for (holder, label); False if it already was. Pin sets may name values that are not
        here."""
        if not self._txn.put(pin_row(holder, label, key), b"", db=self._index.pins, overwrite=False):
            return False
        if holder == KEPT:
            self._count_kept(key, 1)
        self._repin(key, 1)
        return True

    def unpin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Undo `pin`; the value keeps its place in the order of use. False if it was not pinned so."""
        if not self._txn.delete(pin_row(holder, label, key), db=self._index.pins):
            return False
        if holder == KEPT:
            self._count_kept(key, -1)
        self._repin(key, -1)
        return True

    def _count_kept(self, key: bytes, more: int) -> None:
        row = self._txn.get(key, db=self._index.kept)
        count = (U32.unpack(row)[0] if row else 0) + more
        if count:
            self._txn.put(key, U32.pack(count), db=self._index.kept)
        else:
            self._txn.delete(key, db=self._index.kept)

    def _repin(self, key: bytes, more: int) -> None:
        entry = self.entry(key)
        if entry is None:
            return
        pins, tick = entry.pins + more, entry.tick
        if pins and not entry.pins:
            self._txn.delete(U64.pack(tick), db=self._index.queue)
            self.sums.pinned += entry.charge
        elif entry.pins and not pins:
            tick = self._enqueue(tick, entry.charge, key)
            self.sums.pinned -= entry.charge
        self._write(key, entry._replace(tick=tick, pins=pins))

    def pins_of(self, holder: int, label: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """(label, key) of every pin of a holder, or of one label of it."""
        prefix = U64.pack(holder) if label is None else pin_row(holder, label, b"")
        return [(found, key) for _, found, key in self._pin_rows(prefix)]

    def _pin_rows(self, prefix: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        with self._txn.cursor(db=self._index.pins) as cursor:
            positioned = cursor.set_range(prefix) if prefix else cursor.first()
            while positioned:
                row = bytes(cursor.key())
                if not row.startswith(prefix):
                    return
                size = int.from_bytes(row[8:10], "big")
                yield int.from_bytes(row[:8], "big"), row[10 : 10 + size], row[10 + size :]
                positioned = cursor.next()

    # -- owners and folders --------------------------------------------------------------------------

    def add_owner(self, above: int) -> int:
        """A number for this process: larger than every earlier one, and than `above`."""
        self.sums.owners = max(self.sums.owners, above) + 1
        self._txn.put(U64.pack(self.sums.owners), U64.pack(0), db=self._index.owners)
        return self.sums.owners

    def hold(self, owner: int, more: int) -> None:
        """Charge `more` bytes (or fewer, if negative) for what a process has on its way."""
        row = self._txn.get(U64.pack(owner), db=self._index.owners)
        if row is None:
            raise IndexDamaged(f"owner {owner} is missing")
        self._txn.put(U64.pack(owner), U64.pack(U64.unpack(row)[0] + more), db=self._index.owners)
        self.sums.reserved += more

    def drop_owner(self, owner: int) -> None:
        """The process is gone, and what was held for it is free."""
        row = self._txn.pop(U64.pack(owner), db=self._index.owners)
        if row is not None:
            self.sums.reserved -= U64.unpack(row)[0]

    def all_owners(self) -> list[int]:
        with self._txn.cursor(db=self._index.owners) as cursor:
            return [int.from_bytes(owner, "big") for owner in cursor.iternext(keys=True, values=False)]

    def set_folder(self, number: int, occupied: int) -> None:
        """A fan-out directory occupies that many bytes now."""
        name = bytes((number,))
        row = self._txn.get(name, db=self._index.folders)
        before = int.from_bytes(row, "big") if row else 0
        if before != occupied:
            self._txn.put(name, U64.pack(occupied), db=self._index.folders)
            self.sums.folders += occupied - before
