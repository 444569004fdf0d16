"""The index: what each value is charged, how recently it was used, and the sums of it all, in LMDB.

Every change of the index is one LMDB transaction made under the change lock (`ledger.Ledger.change`), so it
sees the state that the last process left. Reads of values never come here.

    entries   key -> tick (8), size (8), charge (8), pins (4), visited (1)
    queue     tick -> key; only entries that may be evicted, the next first (LRU), or the oldest first (SIEVE)
    pins      holder (8), length of label (2), label, key -> nothing; holder 0: kept by a pin set
    kept      key -> how many pin sets name it (4), whether the value is here or not
    owners    owner -> pid (8), bytes held (8): processes that have the cache open; alive as long as they
              hold their lock
    folders   number of a fan-out directory -> bytes of disk its names occupy
    main      one row: `Sums`

Numbers are big-endian, so that LMDB's order is theirs. A tick is the microseconds of the wall clock, moved
on where needed so that ticks only ever grow: it orders, and it says when.
"""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import lmdb
import msgspec

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">QQQI?")
_OWNER = struct.Struct(">QQ")
_SUMS_KEY = b"sums"

PASSES = 512
"""Values the hand of SIEVE passes over in a row: about 2 ms."""

KEPT = 0
"""Holder of the pins that pin sets make: they outlive processes."""


class IndexDamaged(Exception):
    """The index contradicts itself or cannot be parsed: set it aside and rebuild it from the files."""


class Entry(NamedTuple):
    """One value: its place in the queue, its size, its charge (bytes of disk), how often it is pinned."""

    tick: int
    size: int
    charge: int
    pins: int
    visited: bool
    """Used since it came or the hand last passed it (SIEVE only)."""


class Sums(msgspec.Struct, array_like=True):
    """Counts, and bytes of disk, over the whole cache."""

    limit: int = 0
    entries: int = 0
    stored: int = 0
    """Charged for values."""
    pinned: int = 0
    """The part of `stored` that may not be evicted."""
    reserved: int = 0
    """Held for what processes have on its way."""
    folders: int = 0
    """Occupied by the directories of names."""
    unscanned: int = 0
    """Stands for files not yet looked at while the index is being rebuilt."""
    scan: int = 0
    """First fan-out directory a rebuild has not entered yet; `SCANNED` when none is left."""
    scanner: int = 0
    """The process that rebuilds."""
    tick: int = 0
    """The last one given out."""
    owners: int = 0
    """The last owner number given out."""
    evictions: int = 0
    sieve: bool = False
    """Whether eviction follows SIEVE instead of LRU."""
    hand: int = 0
    """SIEVE: the tick the hand has come to."""

    @property
    def charged(self) -> int:
        """Everything but the index's own file and the few fixed ones."""
        return self.stored + self.reserved + self.folders + self.unscanned


_encode_sums = msgspec.msgpack.Encoder().encode
_decode_sums = msgspec.msgpack.Decoder(Sums).decode


class Index:
    """One LMDB environment. Methods raise lmdb.Error, or IndexDamaged."""

    def __init__(self, directory: str, map_size: int) -> None:
        self.directory = directory
        self._file = os.path.join(directory, "data.mdb")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # No sync: the index is rebuilt from the files after an unclean stop, and a commit that waits for
        # the disk allows 200-300 changes a second. No writemap: a stray write could not be told from data.
        self._env = lmdb.open(directory, map_size=map_size, max_dbs=8, sync=False, metasync=False, mode=0o600)
        try:
            self._refuse_truncated()
            self.entries = self._env.open_db(b"entries")
            self.queue = self._env.open_db(b"queue")
            self.pins = self._env.open_db(b"pins")
            self.kept = self._env.open_db(b"kept")
            self.owners = self._env.open_db(b"owners")
            self.folders = self._env.open_db(b"folders")
            self.main = self._env.open_db(b"main")
        except BaseException:
            self._env.close()
            raise

    def _refuse_truncated(self) -> None:
        """LMDB maps its file: touching a page that is not there would kill the process."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if os.stat(self._file).st_size < needed:
            raise IndexDamaged(f"{self._file} is shorter than the {needed} bytes it says it has")

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """One transaction; committed when the block ends, dropped when it raises. Hold the change lock."""
        try:
            txn = self._env.begin(write=True)
        except lmdb.MapResizedError:  # another process has made the map larger
            self._env.set_mapsize(0)
            txn = self._env.begin(write=True)
        with txn:
            try:
                change = Change(self, txn)
                yield change
                txn.put(_SUMS_KEY, _encode_sums(change.sums), db=self.main)
            except (struct.error, msgspec.DecodeError) as error:
                raise IndexDamaged(f"{self._file}: {error}") from error
        change.committed = True

    def sums(self) -> Sums:
        """The sums as last committed."""
        try:
            with self._env.begin() as txn:
                packed = txn.get(_SUMS_KEY, db=self.main)
                return _decode_sums(packed) if packed else Sums()
        except msgspec.DecodeError as error:
            raise IndexDamaged(f"{self._file}: {error}") from error

    def page(self, after: bytes, count: int) -> list[tuple[bytes, Entry]]:
        """Up to `count` entries in the order of keys, after key `after` (b"" for the first)."""
        found: list[tuple[bytes, Entry]] = []
        with self._env.begin() as txn, txn.cursor(db=self.entries) as cursor:
            positioned = cursor.set_range(after) if after else cursor.first()
            while positioned and len(found) < count:
                key, row = cursor.item()
                if key != after:
                    found.append((bytes(key), Entry(*_ENTRY.unpack(row))))
                positioned = cursor.next()
        return found

    @property
    def map_size(self) -> int:
        """Bytes the index may grow to."""
        size: int = self._env.info()["map_size"]
        return size

    def enlarge(self, map_size: int) -> None:
        """Let the index grow to `map_size` bytes; 0 takes the size another process has set. Hold the change
        lock, outside of a change."""
        self._env.set_mapsize(map_size)

    def used(self) -> int:
        """Bytes of disk the index's data file occupies."""
        return os.stat(self._file).st_blocks * 512

    def sync(self) -> None:
        self._env.sync(True)

    def close(self) -> None:
        self._env.close()


class Change:
    """What can be done within one transaction."""

    def __init__(self, index: Index, txn: lmdb.Transaction) -> None:
        self._index = index
        self._txn = txn
        packed = txn.get(_SUMS_KEY, db=index.main)
        self.sums = _decode_sums(packed) if packed else Sums()
        self.sums.tick = max(self.sums.tick, time.time_ns() // 1000)
        self.committed = False

    def _tick(self) -> int:
        self.sums.tick += 1
        return self.sums.tick

    # -- entries -------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        row = self._txn.get(key, db=self._index.entries)
        return Entry(*_ENTRY.unpack(row)) if row else None

    def insert(self, key: bytes, size: int, charge: int, used: int | None = None) -> None:
        """Add a value, which must have no entry: as the most recently used one, or as last used at `used`
        (microseconds). A value that a pin set names is pinned from the start."""
        txn, index, sums = self._txn, self._index, self.sums
        row = txn.get(key, db=index.kept)
        pins = _U32.unpack(row)[0] if row else 0
        tick = self._tick() if used is None else used
        if pins:
            sums.pinned += charge
        else:
            while not txn.put(_U64.pack(tick), key, db=index.queue, overwrite=False, append=used is None):
                tick += 1  # another value was put in the same microsecond
        txn.put(key, _ENTRY.pack(tick, size, charge, pins, False), db=index.entries)
        sums.entries += 1
        sums.stored += charge

    def evict(self, key: bytes, entry: Entry) -> None:
        """Free the charge of a value that is not pinned; unlink its file first."""
        self._txn.delete(_U64.pack(entry.tick), db=self._index.queue)
        self._drop(key, entry)

    def forget(self, key: bytes, entry: Entry) -> None:
        """Free the charge of a value found missing or wrong; the pins of processes go with it, those of pin
        sets wait for its return."""
        if entry.pins:
            for holder, label, found in list(self._pin_rows(b"")):
                if found == key and holder != KEPT:
                    self._txn.delete(_pin_row(holder, label, key), db=self._index.pins)
            self.sums.pinned -= entry.charge
            self._drop(key, entry)
        else:
            self.evict(key, entry)

    def _drop(self, key: bytes, entry: Entry) -> None:
        self._txn.delete(key, db=self._index.entries)
        self.sums.entries -= 1
        self.sums.stored -= entry.charge

    def touch(self, key: bytes) -> None:
        """A value was used: it goes to the end of the queue (LRU), or is marked (SIEVE). Nothing happens if
        it is gone."""
        entry = self.entry(key)
        if entry is None:
            return
        if self.sums.sieve:
            if not entry.visited:
                self._txn.put(key, _ENTRY.pack(*entry[:4], True), db=self._index.entries)
            return
        tick = self._tick()
        self._txn.put(key, _ENTRY.pack(tick, *entry[1:]), db=self._index.entries)
        if not entry.pins:
            self._txn.delete(_U64.pack(entry.tick), db=self._index.queue)
            self._txn.put(_U64.pack(tick), key, db=self._index.queue, append=True)

    def next_out(self) -> Iterator[tuple[bytes, Entry]]:
        """The values that may be evicted, in the order in which they should go. Take what is wanted before
        changing anything else."""
        if self.sums.sieve:
            return self._sieved()
        return self._queued(0)

    def _queued(self, start: int) -> Iterator[tuple[bytes, Entry]]:
        with self._txn.cursor(db=self._index.queue) as cursor:
            if not cursor.set_range(_U64.pack(start)):
                return
            for row in cursor.iternext(keys=False, values=True):
                key = bytes(row)
                entry = self.entry(key)
                if entry is None:
                    raise IndexDamaged(f"the queue names {key.hex()}, which has no entry")
                yield key, entry

    def _sieved(self) -> Iterator[tuple[bytes, Entry]]:
        """SIEVE (Zhang et al., NSDI 2024): from the hand towards newer values, and around; one that was used
        since the hand last passed is passed over, once. After PASSES in a row the next one goes all the same,
        so that one eviction never walks over a million entries."""
        passed = 0
        begin, end = self.sums.hand, 1 << 63
        for start, stop in ((begin, end), (0, begin), (begin, end)):
            for key, entry in self._queued(start):
                if entry.tick >= stop:
                    break
                self.sums.hand = entry.tick + 1
                if entry.visited and passed < PASSES:
                    passed += 1
                    self._txn.put(key, _ENTRY.pack(*entry[:4], False), db=self._index.entries)
                else:
                    passed = 0
                    yield key, entry

    # -- pins ----------------------------------------------------------------------------------------

    def pin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Pin a value for (holder, label); False if it already was. Pin sets may name values that are not
        here."""
        if not self._txn.put(_pin_row(holder, label, key), b"", db=self._index.pins, overwrite=False):
            return False
        if holder == KEPT:
            self._count_kept(key, 1)
        self._repin(key, 1)
        return True

    def unpin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Undo `pin`; the value keeps its place in the order of use. False if it was not pinned so."""
        if not self._txn.delete(_pin_row(holder, label, key), db=self._index.pins):
            return False
        if holder == KEPT:
            self._count_kept(key, -1)
        self._repin(key, -1)
        return True

    def _count_kept(self, key: bytes, more: int) -> None:
        row = self._txn.get(key, db=self._index.kept)
        count = (_U32.unpack(row)[0] if row else 0) + more
        if count:
            self._txn.put(key, _U32.pack(count), db=self._index.kept)
        else:
            self._txn.delete(key, db=self._index.kept)

    def _repin(self, key: bytes, more: int) -> None:
        entry = self.entry(key)
        if entry is None:
            return
        pins = entry.pins + more
        self._txn.put(key, _ENTRY.pack(*entry[:3], pins, entry.visited), db=self._index.entries)
        if pins and not entry.pins:
            self._txn.delete(_U64.pack(entry.tick), db=self._index.queue)
            self.sums.pinned += entry.charge
        elif entry.pins and not pins:
            self._txn.put(_U64.pack(entry.tick), key, db=self._index.queue)
            self.sums.pinned -= entry.charge

    def pins_of(self, holder: int, label: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """(label, key) of every pin of a holder, or of one label of it."""
        prefix = _U64.pack(holder) if label is None else _pin_row(holder, label, b"")
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

    def add_owner(self, pid: int, above: int) -> int:
        """A number for this process: larger than every earlier one, and than `above`."""
        self.sums.owners = max(self.sums.owners, above) + 1
        self._txn.put(_U64.pack(self.sums.owners), _OWNER.pack(pid, 0), db=self._index.owners)
        return self.sums.owners

    def hold(self, owner: int, more: int) -> None:
        """Charge `more` bytes (or fewer, if negative) for what a process has on its way."""
        row = self._txn.get(_U64.pack(owner), db=self._index.owners)
        if row is None:
            raise IndexDamaged(f"owner {owner} is missing")
        pid, held = _OWNER.unpack(row)
        self._txn.put(_U64.pack(owner), _OWNER.pack(pid, held + more), db=self._index.owners)
        self.sums.reserved += more

    def drop_owner(self, owner: int) -> None:
        """The process is gone, and what was held for it is free."""
        row = self._txn.pop(_U64.pack(owner), db=self._index.owners)
        if row is not None:
            self.sums.reserved -= _OWNER.unpack(row)[1]

    def all_owners(self) -> list[int]:
        with self._txn.cursor(db=self._index.owners) as cursor:
            return [int.from_bytes(owner, "big") for owner in cursor.iternext(keys=True, values=False)]

    def set_folder(self, number: int, occupied: int) -> None:
        """A fan-out directory occupies that many bytes now."""
        name = bytes((number,))
        row = self._txn.get(name, db=self._index.folders)
        before = int.from_bytes(row, "big") if row else 0
        if before != occupied:
            self._txn.put(name, _U64.pack(occupied), db=self._index.folders)
            self.sums.folders += occupied - before


def _pin_row(holder: int, label: bytes, key: bytes) -> bytes:
    return b"".join((_U64.pack(holder), len(label).to_bytes(2, "big"), label, key))
