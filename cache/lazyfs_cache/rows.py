"""The tables of the index and their rows. Pure: no I/O.

    entries   key -> tick (8), size (8), charge (8), pins (4), visited (1)
    queue     tick -> key; only entries that may be evicted, the next first (LRU), or the oldest first (SIEVE)
    pins      holder (8), length of label (2), label, key -> nothing; holder 0: kept by a pin set
    kept      key -> how many pin sets name it (4), whether the value is here or not
    owners    owner -> bytes held (8): processes that have the cache open; alive as long as they hold their
              lock, in whatever PID namespace they are
    folders   number of a fan-out directory -> bytes of disk its names occupy
    main      one row: `Sums`

Numbers are big-endian, so that LMDB's order is theirs. A tick is the microseconds of the wall clock, moved
on where needed so that ticks only ever grow: it orders, and it says when.
"""

import struct
from typing import NamedTuple

import lmdb
import msgspec

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
ENTRY = struct.Struct(">QQQI?")
SUMS = b"sums"

PASSES = 512
"""Values the hand of SIEVE passes over in a row: about 2 ms."""

KEPT = 0
"""Holder of the pins that pin sets make: they outlive processes."""


class IndexDamaged(Exception):
    """The index contradicts itself or cannot be parsed: set it aside and rebuild it from the files."""


DAMAGED = (
    IndexDamaged, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError,
    lmdb.VersionMismatchError, lmdb.IncompatibleError,
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

    @property
    def charged(self) -> int:
        """Everything but the index's own file and the few fixed ones."""
        return self.stored + self.reserved + self.folders + self.unscanned


encode_sums = msgspec.msgpack.Encoder().encode
decode_sums = msgspec.msgpack.Decoder(Sums).decode


def pin_row(holder: int, label: bytes, key: bytes) -> bytes:
    return b"".join((U64.pack(holder), len(label).to_bytes(2, "big"), label, key))
