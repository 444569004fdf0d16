"""The bound: what may be admitted, and what goes to make room for it.

    du <= charged <= limit

`charged` is the sum of values (the blocks of the filesystem they occupy), reservations (upper bounds), the
directories their names lie in, the index's file and the few fixed files. Two things can grow before they
can be counted, by at most `slack` per change: the index's file and a directory. So nothing is admitted into
the last `slack` bytes of the limit.
"""

import os
import resource
from collections.abc import Callable
from typing import NamedTuple

from lazyfs_cache.files import layout
from lazyfs_cache.files.journal import SLOTS, Journal
from lazyfs_cache.files.value_files import Disk
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import PASSES, Queued, Sums
from lazyfs_cache.index.transaction import Change

MIN_LIMIT = 2 << 20
"""Smallest limit: below it the fixed files and the slack leave no room for values."""

PER_CHANGE = 64
"""Values evicted while the change lock is held once: about 1 ms for small ones."""

_INDEX_BYTES_PER_ENTRY = 360
"""Map bytes set aside per entry: up to 260 are used for keys of 32 bytes, once every entry has been replaced
many times. 160 of that is its row and its part of the ghosts (a leaf is split when it is full of both, so
that ghosts cost a third, not a fifteenth), 100 its place in the queue, where uses leave holes."""

_KEEP_INODES = 100
"""The part of the filesystem's inodes that is left free: one in so many."""


_PAGE = 4096

_PAGES = 256
"""Pages of the index a change writes at most, besides those for uses. Measured at a million entries: 102 for
32 arrivals in as many leaves under as many branches, and 64 evictions, whose ghosts are swept from 25 leaves
side by side. SIEVE evicts from leaves all over and takes 230."""


def slack(limit: int) -> int:
    """Bytes by which the index and a directory may grow within one change.

    LMDB copies what it writes, so its file may grow by every page a change touches: a small index by its own
    size (a 17th of the limit at most), a large one by `_PAGES` and two pages for each use written.
    """
    return min((64 << 10) + limit // 16, _PAGES * _PAGE + limit // 128)


def uses_per_change(limit: int) -> int:
    """How many uses one change writes: so many that `slack` covers the pages, and that they are done in 10 ms
    (each page is in private memory until the change is committed)."""
    return min(max((slack(limit) - _PAGES * _PAGE) // (2 * _PAGE), 16), 1024)


def passes_per_change(limit: int) -> int:
    """How many used values SIEVE passes over in one change. A mark set or cleared takes one page, where a use
    takes two with LRU: so one may be cleared for each use that may be written. A small index is covered
    whole."""
    small = slack(limit) < _PAGES * _PAGE + limit // 128
    return PASSES if small else min(uses_per_change(limit), PASSES)


def purse(limit: int) -> int:
    """Bytes a process holds beyond what it has promised, while it admits values."""
    return min(max(limit // 256, 64 << 10), 4 << 20)


def map_size(limit: int) -> int:
    """Address space for the index: a twelfth of the limit (a value costs at least a block of 4 KiB, its entry
    260 bytes), at least 16 MiB, and no more than a quarter of what RLIMIT_AS, as batch systems set it,
    allows the process."""
    wanted = max(limit // 12, 16 << 20)
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY:
        wanted = min(wanted, max(allowed // 4, 4 << 20))
    return wanted // 4096 * 4096


class Need(NamedTuple):
    """What is missing: bytes and entries to evict."""

    bytes: int
    entries: int

    @property
    def met(self) -> bool:
        return self.bytes <= 0 and self.entries <= 0


def _unlink_all(value: Queued) -> bool:  # noqa: ARG001
    return False


class Space:
    """The account of one cache directory, as seen by one process."""

    def __init__(self, root: str, disk: Disk, index: Index, *, keep_free: int) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._keep_free = keep_free
        self.journal: Journal
        self._measured = 0
        self.measure()

    def use(self, index: Index) -> None:
        """Another index has taken the place of the one in use."""
        self._index = index
        self.measure()

    def measure(self) -> None:
        """Count the fixed files again: locks, an index set aside."""
        fixed = self._most(self._root)
        for entry in os.scandir(self._root):
            if entry.name in (layout.DATA, layout.TMP, layout.PINS):
                continue
            fixed += self._most(entry.path)
            if entry.is_dir(follow_symlinks=False):
                fixed += sum(self._most(inner.path) for inner in os.scandir(entry.path))
        self._measured = fixed - self._most(os.path.join(self._index.directory, "data.mdb"))

    def count_sets(self, change: Change) -> None:
        """Pin sets came or went: count what their files occupy, for every process."""
        pins = os.path.join(self._root, layout.PINS)
        change.sums.sets = self._most(pins) + sum(self._most(entry.path) for entry in os.scandir(pins))

    @property
    def fixed(self) -> int:
        """Bytes of what is neither value nor index nor in the purses."""
        return self._measured + self._disk.tops_used()

    def _most(self, path: str) -> int:
        """What a file may come to occupy as long as it does not grow, also where blocks are allotted late."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return 0
        return max(found.st_blocks * 512, -(-found.st_size // self._disk.block) * self._disk.block)

    def charged(self, sums: Sums) -> int:
        """All the cache counts as occupied."""
        return sums.charged + self.fixed + self._index.used()

    def capacity(self, sums: Sums) -> int:
        """What values, reservations and directories may take together."""
        return sums.limit - slack(sums.limit) - self.fixed - self._index.used()

    def need(self, change: Change, charge: int) -> Need:
        """What must go before `charge` more bytes, and a journal full of entries, may come."""
        sums = change.sums
        over = sums.charged + charge - self.capacity(sums)
        entries = sums.entries + SLOTS - self._index.map_size // _INDEX_BYTES_PER_ENTRY
        disk = self._disk.space()
        # What is reserved is not on the disk yet, or only in part: it will be taken from what is free now.
        over = max(over, self._keep_free + charge + sums.reserved - disk.f_bavail * disk.f_frsize)
        if disk.f_files:
            entries = max(entries, disk.f_files // _KEEP_INODES + SLOTS - disk.f_favail)
        return Need(over, entries)

    def above_high(self, sums: Sums) -> bool:
        """Whether the high watermark, a 64th of the limit below the capacity, is passed."""
        return sums.charged > self.capacity(sums) - sums.limit // 64

    def above_low(self, sums: Sums) -> Need:
        """What must go to reach the low watermark, a 32nd of the limit below the capacity."""
        return Need(sums.charged - self.capacity(sums) + sums.limit // 32, 0)

    def possible(self, sums: Sums, charge: int) -> bool:
        """Whether evicting everything that may be evicted would make room for `charge` bytes."""
        return sums.pinned + sums.reserved + sums.folders + sums.sets + charge <= self.capacity(sums)

    def growth_of_pins(self, count: int) -> int:
        """Bytes by which the index and the file of a set may grow when `count` keys are pinned, or let go, in
        one change: by every page there is, which LMDB copies, and by the new rows. Measured: 300 a key."""
        return self._index.used() + 512 * count

    def pinnable(self, sums: Sums, charge: int) -> bool:
        """Whether `charge` more pinned bytes leave an eighth of the limit for everything else."""
        return sums.pinned + charge + sums.folders + sums.sets <= self.capacity(sums) - sums.limit // 8

    def evict(self, change: Change, need: Need, keep: Callable[[Queued], bool] = _unlink_all) -> int:
        """Evict the next values in the queue until `need` is met or PER_CHANGE are gone; returns how many.

        Files first, then their charges, so that no byte is counted free while it is not. `keep` may take a
        value's file instead of having it unlinked.
        """
        victims: list[Queued] = []
        freed = 0
        queue = change.next_out(passes_per_change(change.sums.limit))
        while len(victims) < PER_CHANGE and (freed < need.bytes or len(victims) < need.entries):
            victim = next(queue, None)
            if victim is None:
                break
            victims.append(victim)
            freed += victim.charge
        noted = self.journal.removing(victim.key for victim in victims)
        for victim in victims[:noted]:
            if not keep(victim):
                self._disk.remove(victim.key)
        change.evict(victims[:noted])
        change.sums.evictions += noted
        return noted

    def count_folder(self, change: Change, key: bytes) -> None:
        """A name came to `key`'s directory: count what the directory occupies now."""
        number = layout.bucket(key)
        change.set_folder(number, self._disk.directory_used(number))
