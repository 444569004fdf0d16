"""A bounded, crash-safe, shared cache of verified bytes; keys are opaque.

A cache is a directory that all processes of a user share. `open_cache` opens it, `Cache` is the facade; the
rest lies in folders: `files` (everything in the directory but the index), `index` (the LMDB database),
`policy` (pure decisions), `process` (one process's part). docs/cache.md gives the promises of a cache and the
reasons why they hold.

Glossary
--------

Value, key
    A value is a byte string that the caller has verified; a key of 1 to 120 bytes names it. A value never
    changes.
Sealed value
    A value's file: its bytes, then a trailer of checksums, seeded with the key, which are checked at every
    read.
Entry
    A value's row in the index: size, charge, when it was last used, how often it is pinned.
Index
    The database of entries: their charges, and the order of eviction. Reading needs no index.
    It can be lost: a *rebuild* makes it anew from the files.
Generation
    Number of an index. A damaged one is set aside, and the next generation begun; other processes follow.
Index lock
    A lock that one process holds at a time, around every transaction.
Transaction
    One change of the index, made whole or not at all. First it *settles* its process's debts: it enters
    arrivals, writes recent uses, and removes suspects.
Owner
    A process that has the cache open, by its number in the index. It lives as long as it holds the lock on
    that number; pins, journal and held space of a dead owner are cleaned up.
Limit
    Bytes of disk that the directory may occupy, everything included.
Charge
    Bytes counted for a file or a promise: never fewer than the file occupies. `du` <= *charged* <= limit
    at every moment.
Slack
    The last part of the limit, into which no value is admitted: the index may grow by that much in a
    transaction.
Capacity
    The rest of the limit, for values, after slack, index and fixed files.
Shortfall
    Bytes and entries to evict before a value may come.
Watermarks
    Above the high one the upkeep thread evicts down to the low one, so that a put seldom has to.
Reservation
    Space promised to one value before it is downloaded.
Allowance
    Space that the index holds for a process in advance. Reservations are drawn from it without a transaction;
    it is *pending* until the transaction that gives it is committed.
Spare file
    The file of an evicted value, kept to be written over by a new one.
Slot
    The number of a value on its way (the journal has the value's key at the place of this number), or of a
    spare file. The name of the file in tmp/ ends with it.
Arrival
    A value whose file is in place, and whose entry waits for the next transaction.
Suspect
    A key whose value was found damaged, or whose admission failed half-way: the next transaction puts file
    and entry right.
Journal
    A process's list of the keys whose files it is adding or removing, for the process that cleans up after
    it.
Queue
    The entries that may be evicted, by their *ticks* (times of last use). *LRU* takes the first; *SIEVE*
    takes the first that was not used since its *hand* last passed.
Tenant, share
    The user for whom a value was put, such as a repository. No tenant pushes out more than its share of the
    values used within a day (`policy.shares`).
Ghost, floor
    A tenant's floor is the tick up to which LRU has evicted its values. The row of an evicted value is a
    ghost until a sweep deletes the row.
Pin
    Keeps a value from being evicted. A process's pin lasts until the process ends, a *pin set's* until the
    set is dropped.
Download lock
    The right to bring one value here: one download per value, across processes. A key has two *lanes*, so
    that one process downloads beside a holder that is stopped or slow.
Upkeep
    The thread that does everything that need not be done by a put or a get.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazyfs_cache.cache import Cache
    from lazyfs_cache.errors import CacheError, PinSetTooLarge, UnusableDirectory
    from lazyfs_cache.null import NullCache
    from lazyfs_cache.open_caches import open_cache
    from lazyfs_cache.process.download_locks import DownloadLock
    from lazyfs_cache.process.reservation import Reservation
    from lazyfs_cache.report import Stats, Verified

_MODULES = {
    "Cache": "cache",
    "CacheError": "errors",
    "DownloadLock": "process.download_locks",
    "NullCache": "null",
    "PinSetTooLarge": "errors",
    "Reservation": "process.reservation",
    "Stats": "report",
    "UnusableDirectory": "errors",
    "Verified": "report",
    "open_cache": "open_caches",
}
"""The module that has each public name. A module is imported at the first use of one of its names: a program
that only reads the figures of a cache (`Stats`) is spared the 50 other modules."""


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


__all__ = [
    "Cache",
    "CacheError",
    "DownloadLock",
    "NullCache",
    "PinSetTooLarge",
    "Reservation",
    "Stats",
    "UnusableDirectory",
    "Verified",
    "open_cache",
]
