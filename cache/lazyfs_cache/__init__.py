"""A bounded, crash-safe, shared cache of verified bytes; keys are opaque."""

from lazyfs_cache.cache import Cache
from lazyfs_cache.errors import CacheError, PinSetTooLarge, UnusableDirectory
from lazyfs_cache.null import NullCache
from lazyfs_cache.open_caches import open_cache
from lazyfs_cache.process.admission import Reservation
from lazyfs_cache.process.download_locks import DownloadLock
from lazyfs_cache.report import Stats, Verified

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
