"""The bound: the values that may be admitted, and the bytes that must go to make room for them.

    du <= charged <= limit

`charged` is the sum of values (the blocks of the filesystem they occupy), reservations (upper bounds), the
fan-out directories that their files lie in, the index's file and the few fixed files (locks and state). Two
things can grow before they can be counted, by at most `sizes.slack` per transaction: the index's file and a
directory. So nothing is admitted into the last `slack` bytes of the limit.
"""

from typing import NamedTuple, Protocol

from lazyfs_cache.policy.sizes import slack

_KEEP_INODES = 100
"""1 / _KEEP_INODES of the filesystem's inodes are left free."""


class Shortfall(NamedTuple):
    """Bytes, and number of entries in the index, to evict before a value may come."""

    bytes: int
    entries: int

    @property
    def met(self) -> bool:
        """True if no bytes or entries are missing."""
        return self.bytes <= 0 and self.entries <= 0


class Charges(Protocol):
    """The charges of a cache, all in bytes except `entries`. `index.rows.Sums` implements it."""

    @property
    def limit(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def pinned(self) -> int:
        """Bytes of values that may not be evicted."""
        ...

    @property
    def reserved(self) -> int:
        """Bytes held for processes: their allowances and journals."""
        ...

    @property
    def directories(self) -> int:
        """Bytes that the fan-out directories occupy."""
        ...

    @property
    def pin_sets(self) -> int:
        """Bytes that the files of pin sets occupy."""
        ...

    @property
    def charged(self) -> int:
        """Bytes of values, reservations, fan-out directories and pin sets together. The index's file and the
        fixed files are not included."""
        ...


class FreeSpace(NamedTuple):
    """The part of a filesystem's space that is free and that this user may take."""

    bytes: int
    inodes: int
    """Number of all inodes of the filesystem; 0 if the filesystem does not count them."""
    inodes_free: int


class Measures(Protocol):
    """Measurements of a cache directory and its filesystem, taken anew at each call."""

    def fixed(self) -> int:
        """Returns the number of bytes of the fixed files and of the directories data/ and tmp/ themselves."""
        ...

    def index_file(self) -> int:
        """Returns the number of bytes of disk the index's file occupies."""
        ...

    def index_entries(self) -> int:
        """Returns the number of entries for which the index has room."""
        ...

    def free(self) -> FreeSpace: ...


class Limits:
    """The bounds of one cache directory. Every method answers from the given charges and a measurement.

    `keep_free`: bytes of the filesystem that are left free. `arriving`: the number of values that a process
    may have on their way, each of which becomes an entry in the index.
    """

    def __init__(self, measures: Measures, *, keep_free: int, arriving: int) -> None:
        self._measures = measures
        self._keep_free = keep_free
        self._arriving = arriving

    def charged(self, charges: Charges) -> int:
        """Returns the number of bytes that the cache counts as occupied."""
        return charges.charged + self._measures.fixed() + self._measures.index_file()

    def capacity(self, charges: Charges) -> int:
        """Returns the number of bytes that values, reservations, directories and pin sets may take
        together."""
        limit = charges.limit
        return limit - slack(limit) - self._measures.fixed() - self._measures.index_file()

    def shortfall(self, charges: Charges, charge: int) -> Shortfall:
        """Returns the bytes and entries to evict so that there is room for `charge` more bytes, and for the
        entries of all values on their way."""
        free = self._measures.free()
        over = charges.charged + charge - self.capacity(charges)
        # Reserved values are not on the disk yet, or only in part: they will use space that is free now.
        over = max(over, self._keep_free + charge + charges.reserved - free.bytes)
        entries = charges.entries + self._arriving - self._measures.index_entries()
        if free.inodes:
            entries = max(entries, free.inodes // _KEEP_INODES + self._arriving - free.inodes_free)
        return Shortfall(over, entries)

    def above_high(self, charges: Charges) -> bool:
        """Returns True if the charges are above the high watermark, which lies a 64th of the limit below the
        capacity."""
        return charges.charged > self.capacity(charges) - charges.limit // 64

    def above_low(self, charges: Charges) -> Shortfall:
        """Returns the bytes to evict until the charges are down to the low watermark, which lies a 32nd of
        the limit below the capacity."""
        return Shortfall(charges.charged - self.capacity(charges) + charges.limit // 32, 0)

    def over_capacity(self, charges: Charges) -> Shortfall:
        """Returns the bytes to evict until the charges are down to the capacity. They may be above it once
        the limit was lowered."""
        return Shortfall(charges.charged - self.capacity(charges), 0)

    def possible(self, charges: Charges, charge: int) -> bool:
        """Returns True if evicting every evictable value would make room for `charge` bytes."""
        return self._unevictable(charges) + charges.reserved + charge <= self.capacity(charges)

    def pins_fit(self, charges: Charges, more: int) -> bool:
        """Returns True if at least an eighth of the limit is left for other values once `more` further bytes
        are pinned."""
        return self._unevictable(charges) + more <= self.capacity(charges) - charges.limit // 8

    def growth_of_pins(self, count: int) -> int:
        """Returns the largest number of bytes by which the index and the file of a pin set may grow when
        `count` keys are pinned or unpinned in one transaction: LMDB may copy every page of the index, and
        there are new rows. Measured: 300 bytes a key."""
        return self._measures.index_file() + 512 * count

    def _unevictable(self, charges: Charges) -> int:
        return charges.pinned + charges.directories + charges.pin_sets
