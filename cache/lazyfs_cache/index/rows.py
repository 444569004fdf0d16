"""The tables of the index and their rows. Pure: no I/O.

    entries   key -> set apart (1), tick (8), size (8), charge (8), pins (4), visited (1)
    queue     tick -> charge (8), key; only entries that may be evicted, the next first (LRU), or the oldest
              first (SIEVE)
    pins      holder (8), length of label (2), label, key -> nothing; holder 0: kept by a pin set
    kept      key -> how many pin sets name it (4), whether the value is here or not
    owners    owner -> bytes held (8): processes that have the cache open; alive as long as they hold their
              lock, in whatever PID namespace they are
    folders   number of a fan-out directory -> bytes of disk its names occupy
    main      one row: `Sums`

Numbers are big-endian, so that LMDB's order is theirs. A tick is the microseconds of the wall clock, moved
on where needed so that ticks only ever grow: it orders, and it says when.

**Ghosts.** LRU evicts in the order of ticks, so one number, `Sums.floor`, says what is gone, and the row in
`entries` may stay for a while: as a ghost, which a later change deletes in passing (`Change.evict`). Rows of
which the floor says nothing are set apart: those of pinned values, and of values that came into the queue
below the floor (let go, or adopted by a rebuild) and keep their turn.
"""

import struct
from typing import NamedTuple

import lmdb
import msgspec

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">?QQQI?")
_FLOOR = struct.Struct(">?Q")
SUMS = b"sums"

PASSES = 512
"""Values the hand of SIEVE passes over in one change at most: about 2 ms."""

SWEPT = 8
"""Rows of `entries` looked at for each value that goes, to delete the ghosts among them.

While the sweep goes around once, an eighth as many values go as there are rows. So ghosts are a fifteenth of
the rows on average and an eighth at most, and where values only go, c = 0.18 for each one that is here:
c = (1 + c) / (8 - 1 - c). Measured for one eviction at a million entries: 4 rows take 0.30 pages and 4.7 us,
but ghosts might become as many as entries; 8 take 0.42 pages and 5.9 us, 16 take 0.68 pages and 7.9 us.
"""

KEPT = 0
"""Holder of the pins that pin sets make: they outlive processes."""


class IndexDamaged(Exception):
    """The index contradicts itself or cannot be parsed: set it aside and rebuild it from the files."""


DAMAGED = (
    IndexDamaged, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError,
    lmdb.VersionMismatchError, lmdb.IncompatibleError, lmdb.BadTxnError,
)  # fmt: skip
"""Errors that say that the index is damaged, and not the disk it is on."""


class Entry(NamedTuple):
    """One value: its place in the queue, its size, its charge (bytes of disk), how often it is pinned."""

    tick: int
    size: int
    charge: int
    pins: int
    visited: bool
    """Used since it came or the hand last passed it (SIEVE only)."""


class Queued(NamedTuple):
    """One value that may be evicted: all that evicting it takes."""

    tick: int
    charge: int
    key: bytes


def entry_row(entry: Entry, floor: int) -> bytes:
    """The row of a value that is here."""
    return _ENTRY.pack(entry.pins > 0 or entry.tick <= floor, *entry)


def first_above(floor: int) -> bytes:
    """Rows of `entries` that compare less than this are ghosts: neither set apart nor above the floor."""
    return _FLOOR.pack(False, floor + 1)


def entry_of(row: bytes | None, floor: int) -> Entry | None:
    """What a row of `entries` says is here: nothing if there is none, or if it is a ghost."""
    if row is None or row < first_above(floor):
        return None
    _, tick, size, charge, pins, visited = _ENTRY.unpack(row)
    return Entry(tick, size, charge, pins, visited)


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
    """Stands for files not yet looked at; 0 unless the index is being rebuilt."""
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
    floor: int = 0
    """LRU: the tick of the value evicted last; never above `tick`."""
    ghosts: int = 0
    """Rows of `entries` whose values are gone."""
    sweep: bytes = b""
    """The key the sweep for ghosts has come to."""
    sets: int = 0
    """Occupied by the files of pin sets."""

    @property
    def charged(self) -> int:
        """Everything but the index's own file and the few fixed ones."""
        return self.stored + self.reserved + self.folders + self.unscanned + self.sets


encode_sums = msgspec.msgpack.Encoder().encode
decode_sums = msgspec.msgpack.Decoder(Sums).decode


def pin_row(holder: int, label: bytes, key: bytes) -> bytes:
    return b"".join((U64.pack(holder), len(label).to_bytes(2, "big"), label, key))
