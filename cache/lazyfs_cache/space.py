"""The bound: what may be admitted, and what goes to make room for it.

    du <= charged <= limit

`charged` is the sum of: values (blocks of the filesystem they occupy), reservations (upper bounds), the
directories their names lie in, the index's file and the few fixed files. Two things can grow before they
can be counted, by at most `slack` per change: the index's file and a directory. So nothing is admitted into
the last `slack` bytes of the limit.
"""

import os
import resource
from typing import NamedTuple

from lazyfs_cache import layout
from lazyfs_cache.disk import Disk
from lazyfs_cache.filesystem import used
from lazyfs_cache.index import Change, Index, Sums

MIN_LIMIT = 2 << 20
"""Smallest limit: below it the fixed files and the slack leave no room for values."""

_INDEX_BYTES_PER_ENTRY = 320
"""Map bytes set aside per entry: 160-200 are used at a million entries of 32-byte keys."""

_EXTRA = 32
"""Values evicted beyond what is needed, so that the next admissions need not evict: at most so many, down to
the low watermark."""

MOST_PER_CHANGE = 256
"""Values evicted while the change lock is held once: about 4 ms for small ones."""

KEEP_INODES = 100
"""The part of the filesystem's inodes that is left free: one in so many."""


def slack(limit: int) -> int:
    """Bytes by which the index and a directory may grow within one change."""
    return (128 << 10) + limit // 128


def map_size(limit: int) -> int:
    """Address space for the index: a sixteenth of the limit (a value costs at least a block of 4 KiB, its
    entry 200 bytes), at least 16 MiB, and no more than a quarter of what RLIMIT_AS, as batch systems set it,
    allows the process."""
    wanted = max(limit // 16, 16 << 20)
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY:
        wanted = min(wanted, max(allowed // 4, 4 << 20))
    return wanted // 4096 * 4096


class Need(NamedTuple):
    """What is missing: bytes and entries to evict."""

    bytes: int
    entries: int

    def __bool__(self) -> bool:
        return self.bytes > 0 or self.entries > 0


class Space:
    """The account of one cache directory, as seen by one process."""

    def __init__(self, root: str, disk: Disk, index: Index, *, map_size: int, keep_free: int) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._most_entries = map_size // _INDEX_BYTES_PER_ENTRY
        self._keep_free = keep_free
        self.fixed = 0
        self.measure()

    def measure(self) -> None:
        """Count the fixed files again: locks, state, tmp/ itself and what is set aside."""
        fixed = used(self._root)
        for name in os.listdir(self._root):
            fixed += used(os.path.join(self._root, name))
        for entry in os.scandir(self._index.directory):
            if entry.name != "data.mdb":
                fixed += used(entry.path)
        self.fixed = fixed

    def charged(self, sums: Sums) -> int:
        """All the cache counts as occupied."""
        return sums.charged + self.fixed + self._index.used()

    def capacity(self, sums: Sums) -> int:
        """What values, reservations and directories may take together."""
        return sums.limit - slack(sums.limit) - self.fixed - self._index.used()

    def need(self, change: Change, charge: int) -> Need:
        """What must go before `charge` more bytes and one more entry may come."""
        sums = change.sums
        over = sums.charged + charge - self.capacity(sums)
        entries = sums.entries + sums.intents + 1 - self._most_entries
        space = self._disk.space()
        # What is reserved is not on the disk yet (or only in part): it will be taken from what is free now.
        over = max(over, self._keep_free + charge + sums.reserved - space.f_bavail * space.f_frsize)
        if space.f_files:
            entries = max(entries, space.f_files // KEEP_INODES + 1 + sums.intents - space.f_favail)
        return Need(over, entries)

    def possible(self, change: Change, charge: int) -> bool:
        """Whether evicting everything that may be evicted would make room for `charge` bytes."""
        sums = change.sums
        return sums.pinned + sums.reserved + sums.folders + charge <= self.capacity(sums)

    def evict(self, change: Change, need: Need) -> int:
        """Evict least recently used values until `need` is met or MOST_PER_CHANGE are gone; returns how many
        went. Files first, then their charges, so that no byte is counted free while it is not; killed in
        between, the values without files are the first in the order of use, where the next one finds them.
        """
        freed = 0
        for count in range(MOST_PER_CHANGE):
            if freed >= need.bytes and count >= need.entries:
                return count
            oldest = change.oldest()
            if oldest is None:
                return count
            key, entry = oldest
            self._disk.remove(key)
            change.remove(key, entry)
            change.sums.evictions += 1
            freed += entry.charge
        return MOST_PER_CHANGE

    def evict_bytes(self, change: Change, wanted: int) -> int:
        """Evict at least `wanted` bytes, as far as one change goes; returns how many values went."""
        return self.evict(change, Need(wanted, 1))

    def pinnable(self, change: Change, charge: int) -> bool:
        """Whether `charge` more pinned bytes leave an eighth of the limit for everything else."""
        sums = change.sums
        return sums.pinned + charge + sums.folders <= self.capacity(sums) - sums.limit // 8

    def spare(self, change: Change, charge: int) -> None:
        """Evict a little more, towards the low watermark (31/32 of the limit), once eviction has begun."""
        sums = change.sums
        low = self.capacity(sums) - sums.limit // 32
        for _ in range(_EXTRA):
            if sums.charged + charge <= low:
                return
            if not self.evict(change, Need(1, 1)):
                return

    def count_folder(self, change: Change, key: bytes) -> None:
        """A name came to `key`'s directory: count what the directory occupies now."""
        number = layout.bucket(key)
        change.set_folder(number, self._disk.directory_used(number))
