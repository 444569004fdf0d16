"""The tables of the index and their rows. Pure: no I/O.

    entries   key -> tenant (1), set apart (1), tick (8), size (8), charge (8), pins (4), visited (1)
    queue     tenant (1), tick (8) -> charge (8), key; only entries that may be evicted, within a tenant the
              least recently used first (LRU), or the oldest first (SIEVE)
    pins      holder (8), length of label (2), label, key -> nothing; holder 0: kept by a pin set
    kept      key -> number of pin sets that name it (4); its value may or may not be here
    owners    owner -> bytes held (8): processes that have the cache open; each is alive as long as it holds
              the lock on its number, in any PID namespace
    folders   number of a fan-out directory -> bytes of disk it occupies itself
    main      one row: `Sums`

Numbers are big-endian, so that LMDB sorts them by size. A tick is a time in microseconds of the wall clock,
increased where needed so that ticks only ever grow. Ticks give the order and the times of uses.

**Tenants.** Values belong to the tenant that brought them first, and stay its own. Each tenant has a number,
the place of its row in `Sums.tenants`; number 0 stands for values without a tenant.

**Ghosts.** LRU evicts a tenant's values in the order of ticks, so one number, `Tenant.floor`, tells which
values are gone: those of the tenant with this tick or an earlier one. The row of a value that is gone may
stay in `entries` for a while, as a ghost, until a later transaction deletes it in passing
(`Transaction.evict`). The floor does not count for rows that are set apart: those of pinned values, and of
values that came into the queue below the floor (unpinned, or adopted by a rebuild).
"""

import struct
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from lazyfs_cache.policy.shares import MOST

U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">B?QQQI?")
_FLOOR = struct.Struct(">B?Q")
PLACE = struct.Struct(">BQ")
"""The key of a row of the queue."""
SUMS = b"sums"
LARGEST = 1 << 62
"""Larger than any sum, tick (microseconds since 1970) or owner (generation << 32), and small enough for rows
and system calls."""
_Number = Annotated[int, msgspec.Meta(ge=0, lt=LARGEST)]

SWEPT = 8
"""For each value that goes, this many rows of `entries` are looked at, and the ghosts among them are deleted.

After each eighth of the values has gone, the sweep has looked at every row once. So at most an eighth of the
rows are ghosts, and a fifteenth on average, while as many values come as go. If none come, there are up to
0.18 ghosts for each value left. One eviction at a million entries, measured: with 4 rows, 0.30 pages of the
index and 4.7 us, but ghosts may become as many as entries; with 8 rows, 0.42 pages and 5.9 us; with 16 rows,
0.68 pages and 7.9 us.
"""

KEPT = 0
"""The holder of the pins of pin sets, which outlive processes."""


class Entry(NamedTuple):
    """One value that is here."""

    tick: int
    """The value's place in the queue: the time of its last use (LRU) or arrival (SIEVE), in microseconds."""
    size: int
    charge: int
    """Bytes of disk that the value's file occupies."""
    pins: int
    """Number of the value's pins. A pinned value is not in the queue."""
    visited: bool
    """True if the value was used since it came or the hand last passed it (SIEVE only)."""
    tenant: int = 0
    """The number of the tenant that brought the value."""


class Tenant(msgspec.Struct, array_like=True):
    """One tenant's part of the cache."""

    name: bytes = b""
    """The name that the caller of `put` gave the tenant; empty for values without a tenant."""
    entries: _Number = 0
    stored: _Number = 0
    """Bytes charged for the tenant's values."""
    used: _Number = 0
    """The tick at which a value of the tenant was last used."""
    hand: _Number = 0
    """SIEVE: the tick that the tenant's hand has reached. The hand moves along the queue and evicts the
    values that were not used since it last passed them."""
    floor: _Number = 0
    """LRU: the tick of the value of this tenant that was evicted last; never above `Sums.tick`. If another
    tenant gets the number, the floor stays, because rows of values that are gone may still have the
    number."""


def entry_row(entry: Entry, tenants: Sequence[Tenant]) -> bytes:
    """Returns the row of a value that is here."""
    tick, size, charge, pins, visited, tenant = entry
    return _ENTRY.pack(tenant, pins > 0 or tick <= tenants[tenant].floor, tick, size, charge, pins, visited)


def first_above(number: int, floor: int) -> bytes:
    """Returns the first bytes of the smallest row of `entries` that is no ghost, for the tenant with this
    number and floor. The tenant's rows that are smaller, compared as bytes, are its ghosts: they are not set
    apart, and their ticks are not above the floor."""
    return _FLOOR.pack(number, False, floor + 1)


def entry_of(row: bytes | None, tenants: Sequence[Tenant]) -> Entry | None:
    """Returns the value that a row of `entries` stands for; None if there is no row, or if it is a ghost.
    Raises struct.error or IndexError for an invalid row."""
    if row is None:
        return None
    tenant, apart, tick, size, charge, pins, visited = _ENTRY.unpack(row)
    if not apart and tick <= tenants[tenant].floor:
        return None
    return Entry(tick, size, charge, pins, visited, tenant)


class Sums(msgspec.Struct, array_like=True):
    """Totals over the whole cache: counts, and bytes of disk. The row is an array: fields have no names on
    the disk, and keep their order."""

    limit: _Number = 0
    entries: _Number = 0
    stored: _Number = 0
    """Bytes charged for values."""
    pinned: _Number = 0
    """The part of `stored` that may not be evicted."""
    reserved: _Number = 0
    """Bytes held for processes: their allowances and journals."""
    directories: _Number = 0
    """Bytes of disk that the fan-out directories (data/00 to data/ff) occupy themselves."""
    unscanned: _Number = 0
    """Bytes charged for files not yet looked at; 0 unless the index is being rebuilt."""
    scan: _Number = 0
    """The first fan-out directory that a rebuild has not entered yet; 256 when none is left."""
    scanner: _Number = 0
    """The owner number of the process that rebuilds; 0 if none does."""
    tick: _Number = 0
    """The last tick given out."""
    last_owner: _Number = 0
    """The last owner number given out."""
    evictions: _Number = 0
    sieve: bool = False
    """True if eviction follows SIEVE, not LRU."""
    ghosts: _Number = 0
    """Rows of `entries` whose values are gone."""
    sweep: bytes = b""
    """The key at which the next sweep for ghosts begins (`SWEPT`)."""
    pin_sets: _Number = 0
    """Bytes that the files of pin sets occupy."""
    tenants: Annotated[list[Tenant], msgspec.Meta(min_length=1, max_length=MOST)] = msgspec.field(
        default_factory=lambda: [Tenant()]
    )

    @property
    def charged(self) -> int:
        """Bytes of values, reservations, fan-out directories, files not yet looked at, and pin sets together.
        The index's own file and the fixed files are not included."""
        return self.stored + self.reserved + self.directories + self.unscanned + self.pin_sets


encode_sums = msgspec.msgpack.Encoder().encode
_decode_sums = msgspec.msgpack.Decoder(Sums).decode


def read_sums(row: bytes | None) -> Sums:
    """Returns the totals; those of an empty index if there is no row. Raises msgspec.MsgspecError for an
    invalid row."""
    return _decode_sums(row) if row else Sums()


def pin_row(holder: int, label: bytes, key: bytes) -> bytes:
    """Returns the row of a pin, or, with an empty key, the start of all rows of a holder and label."""
    return b"".join((U64.pack(holder), len(label).to_bytes(2, "big"), label, key))
