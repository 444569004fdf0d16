"""The index: what each value is charged, how recently it was used, and the sums of it all, in LMDB.

Every change is one LMDB transaction made under the change lock (`locks.ChangeLock`), so it sees the state
that the last process left. Reads of values never come here.

    entries   key -> tick (8), size (8), charge (8), pins (4)
    recency   tick -> key; only entries that may be evicted, least recently used first
    intents   number -> owner (8), charge (8), key; what a process is about to do to `key` and its file
    pins      holder (8) + length of label (2) + label + key -> nothing; holder 0: kept by a pin set
    owners    owner -> pid (8); processes that have the cache open, alive as long as their lock is held
    folders   number of a fan-out directory -> bytes of disk its names occupy
    sums      one row: `Sums`

Big-endian numbers, so that LMDB's order is theirs.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import lmdb

_U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">QQQI")
_INTENT = struct.Struct(">QQ")
_SUMS = struct.Struct(">12Q")
_SUMS_KEY = b"sums"


class Entry(NamedTuple):
    """One value: when it was last used (a number that only grows), its size, its charge, its pins."""

    tick: int
    size: int
    charge: int
    pins: int


class Intent(NamedTuple):
    """A change of `key` that process `owner` has begun; `charge` is held for it until it ends."""

    owner: int
    charge: int
    key: bytes


class Sums:
    """Bytes of disk and counts over the whole cache; `unscanned` stands for files not yet looked at."""

    __slots__ = (
        "entries", "evictions", "folders", "intents", "limit", "next", "owners", "pinned", "reserved", "scan",
        "stored", "unscanned",
    )  # fmt: skip

    def __init__(self, packed: bytes | None) -> None:
        self.stored: int
        self.reserved: int
        self.folders: int
        self.unscanned: int
        self.pinned: int
        self.intents: int
        self.limit: int
        self.entries: int
        self.next: int
        self.owners: int
        self.scan: int
        self.evictions: int
        values: tuple[int, ...] = _SUMS.unpack(packed) if packed else (0,) * 12
        (
            self.entries, self.stored, self.pinned, self.reserved, self.intents, self.folders, self.unscanned,
            self.scan, self.next, self.owners, self.limit, self.evictions,
        ) = values  # fmt: skip

    def pack(self) -> bytes:
        return _SUMS.pack(
            self.entries, self.stored, self.pinned, self.reserved, self.intents, self.folders, self.unscanned,
            self.scan, self.next, self.owners, self.limit, self.evictions,
        )  # fmt: skip

    @property
    def charged(self) -> int:
        """Everything but the index's own file and the few fixed ones."""
        return self.stored + self.reserved + self.folders + self.unscanned


def _bytes(row: bytes | memoryview | None) -> bytes | None:
    return None if row is None else bytes(row)


def _intent(row: bytes | memoryview) -> Intent:
    owner, charge = _INTENT.unpack_from(row)
    return Intent(owner, charge, bytes(row[_INTENT.size :]))


class Index:
    """One LMDB environment. Methods raise lmdb.Error."""

    def __init__(self, directory: str, map_size: int) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.directory = directory
        self._file = os.path.join(directory, "data.mdb")
        # No sync: the index is rebuilt from the files after an unclean stop, and a commit that waits for
        # the disk allows 200-300 changes a second. No writemap: a stray write could not be told from data.
        self._env = lmdb.open(
            directory, map_size=map_size, max_dbs=8, max_readers=126, sync=False, metasync=False, mode=0o600
        )
        self.entries = self._env.open_db(b"entries")
        self.recency = self._env.open_db(b"recency")
        self.intents = self._env.open_db(b"intents")
        self.pins = self._env.open_db(b"pins")
        self.owners = self._env.open_db(b"owners")
        self.folders = self._env.open_db(b"folders")
        self.main = self._env.open_db(b"main")

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """One transaction; committed when the block ends, dropped when it raises. Hold the change lock."""
        try:
            txn = self._env.begin(write=True)
        except lmdb.MapResizedError:  # another process has a larger map
            self._env.set_mapsize(0)
            txn = self._env.begin(write=True)
        with txn:
            change = Change(self, txn)
            yield change
            txn.put(_SUMS_KEY, change.sums.pack(), db=self.main)
        change.committed = True

    def sums(self) -> Sums:
        """The sums as last committed."""
        with self._env.begin() as txn:
            return Sums(_bytes(txn.get(_SUMS_KEY, db=self.main)))

    def page(self, after: bytes, count: int) -> list[tuple[bytes, Entry]]:
        """Up to `count` entries by key, after key `after` (b"" for the first)."""
        found: list[tuple[bytes, Entry]] = []
        with self._env.begin() as txn, txn.cursor(db=self.entries) as cursor:
            positioned = cursor.set_range(after) if after else cursor.first()
            while positioned and len(found) < count:
                key, row = cursor.item()
                if key != after:
                    found.append((bytes(key), Entry(*_ENTRY.unpack(row))))
                positioned = cursor.next()
        return found

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
        self.committed = False
        self.sums = Sums(_bytes(txn.get(_SUMS_KEY, db=index.main)))

    def _next(self) -> int:
        self.sums.next += 1
        return self.sums.next

    # -- entries -------------------------------------------------------------------------------------

    def entry(self, key: bytes) -> Entry | None:
        row = self._txn.get(key, db=self._index.entries)
        return Entry(*_ENTRY.unpack(row)) if row else None

    def insert(self, key: bytes, size: int, charge: int) -> None:
        """Add a value as the most recently used one; `key` must have no entry."""
        tick = self._next()
        self._txn.put(key, _ENTRY.pack(tick, size, charge, 0), db=self._index.entries)
        self._txn.put(_U64.pack(tick), key, db=self._index.recency, append=True)
        self.sums.entries += 1
        self.sums.stored += charge

    def remove(self, key: bytes, entry: Entry) -> None:
        """Free a value's charge; unlink its file first. `forget` is for values that may be pinned."""
        self._txn.delete(key, db=self._index.entries)
        if entry.pins:
            self.sums.pinned -= entry.charge
        else:
            self._txn.delete(_U64.pack(entry.tick), db=self._index.recency)
        self.sums.entries -= 1
        self.sums.stored -= entry.charge

    def forget(self, key: bytes, entry: Entry) -> None:
        """`remove`, and drop every pin of the value; for what is found missing or wrong."""
        if entry.pins:
            for holder, label, found in list(self._pin_rows(b"")):
                if found == key:
                    self._txn.delete(pin_row(holder, label, key), db=self._index.pins)
        self.remove(key, entry)

    def touch(self, key: bytes) -> None:
        """Make a value the most recently used one; nothing happens if it is gone."""
        entry = self.entry(key)
        if entry is None or entry.tick == self.sums.next:
            return
        tick = self._next()
        self._txn.put(key, _ENTRY.pack(tick, entry.size, entry.charge, entry.pins), db=self._index.entries)
        if not entry.pins:
            self._txn.delete(_U64.pack(entry.tick), db=self._index.recency)
            self._txn.put(_U64.pack(tick), key, db=self._index.recency, append=True)

    def oldest(self) -> tuple[bytes, Entry] | None:
        """The least recently used value that may be evicted."""
        with self._txn.cursor(db=self._index.recency) as cursor:
            if not cursor.first():
                return None
            key = bytes(cursor.value())
        entry = self.entry(key)
        assert entry is not None, "recency names a value without an entry"
        return key, entry

    # -- pins ----------------------------------------------------------------------------------------

    def add_pin(self, key: bytes, entry: Entry, holder: int, label: bytes) -> bool:
        """Pin a value for (holder, label); False if it already was."""
        if not self._txn.put(pin_row(holder, label, key), b"", db=self._index.pins, overwrite=False):
            return False
        self._repin(key, entry, entry.pins + 1)
        return True

    def drop_pin(self, key: bytes, holder: int, label: bytes) -> bool:
        """Undo `add_pin`; the value keeps its place in the order of use. False if it was not pinned so."""
        if not self._txn.delete(pin_row(holder, label, key), db=self._index.pins):
            return False
        entry = self.entry(key)
        if entry is not None and entry.pins:
            self._repin(key, entry, entry.pins - 1)
        return True

    def _repin(self, key: bytes, entry: Entry, pins: int) -> None:
        self._txn.put(key, _ENTRY.pack(entry.tick, entry.size, entry.charge, pins), db=self._index.entries)
        if pins and not entry.pins:
            self._txn.delete(_U64.pack(entry.tick), db=self._index.recency)
            self.sums.pinned += entry.charge
        elif entry.pins and not pins:
            self._txn.put(_U64.pack(entry.tick), key, db=self._index.recency)
            self.sums.pinned -= entry.charge

    def pins_of(self, holder: int) -> list[tuple[bytes, bytes]]:
        """(label, key) of every pin of a holder."""
        return [(label, key) for found, label, key in self._pin_rows(_U64.pack(holder)) if found == holder]

    def _pin_rows(self, prefix: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        with self._txn.cursor(db=self._index.pins) as cursor:
            positioned = cursor.set_range(prefix)
            while positioned:
                row = bytes(cursor.key())
                if not row.startswith(prefix):
                    return
                size = int.from_bytes(row[8:10], "big")
                yield _U64.unpack_from(row)[0], row[10 : 10 + size], row[10 + size :]
                positioned = cursor.next()

    # -- intents -------------------------------------------------------------------------------------

    def intend(self, owner: int, key: bytes, charge: int) -> int:
        """Note a change of `key` before it begins, and hold `charge` for it; returns its number."""
        number = self._next()
        self._txn.put(
            _U64.pack(number), _INTENT.pack(owner, charge) + key, db=self._index.intents, append=True
        )
        self.sums.reserved += charge
        self.sums.intents += 1
        return number

    def intent(self, number: int) -> Intent | None:
        row = self._txn.get(_U64.pack(number), db=self._index.intents)
        return _intent(row) if row else None

    def settle(self, number: int) -> None:
        """The change is over, one way or the other: its charge is free."""
        row = self._txn.pop(_U64.pack(number), db=self._index.intents)
        if row is not None:
            self.sums.reserved -= _INTENT.unpack_from(row)[1]
            self.sums.intents -= 1

    def all_intents(self) -> list[tuple[int, Intent]]:
        with self._txn.cursor(db=self._index.intents) as cursor:
            return [(_U64.unpack(number)[0], _intent(row)) for number, row in cursor]

    # -- owners and folders --------------------------------------------------------------------------

    def add_owner(self, pid: int) -> int:
        self.sums.owners += 1
        self._txn.put(_U64.pack(self.sums.owners), _U64.pack(pid), db=self._index.owners)
        return self.sums.owners

    def drop_owner(self, owner: int) -> None:
        self._txn.delete(_U64.pack(owner), db=self._index.owners)

    def all_owners(self) -> list[int]:
        with self._txn.cursor(db=self._index.owners) as cursor:
            return [_U64.unpack(owner)[0] for owner in cursor.iternext(keys=True, values=False)]

    def set_folder(self, number: int, occupied: int) -> None:
        """A fan-out directory occupies that many bytes now."""
        name = bytes((number,))
        row = self._txn.get(name, db=self._index.folders)
        before = _U64.unpack(row)[0] if row else 0
        if before != occupied:
            self._txn.put(name, _U64.pack(occupied), db=self._index.folders)
            self.sums.folders += occupied - before


def pin_row(holder: int, label: bytes, key: bytes) -> bytes:
    return b"".join((_U64.pack(holder), len(label).to_bytes(2, "big"), label, key))
