"""Catalogs in use stay in the cache: without them no path of their images can be looked up.

A catalog that is parsed in memory is not read from the disk again, so the cache would take it for unused and
evict it before any file; a mount that starts anew with the origin away would then show nothing.
"""

import time

from lazyfs.core.digest import Digest
from lazyfs_cache import Cache, CacheError, NullCache

LABEL = b"catalogs in use"

_SHARE = 4
"""Pinned catalogs take one part in so many of the cache's limit at most: the rest is for files."""

PATIENCE = 2.0
"""Seconds after which the rest is left to the next time: where another process holds the cache's lock, every
pin would wait for it, and the mount's end for all of them."""


class CatalogPins:
    """Pins that follow what a mount has parsed; they end with its process."""

    def __init__(self, cache: Cache | NullCache) -> None:
        self._cache = cache
        self._pinned: set[Digest] = set()
        self._generation = cache.generation

    def follow(self, in_use: dict[Digest, int]) -> None:
        """Pins the catalogs in use (with their sizes; the latest used last) and unpins the others. May wait
        for the cache's lock: call it in a thread, one at a time."""
        deadline = time.monotonic() + PATIENCE
        left = self._cache.stats().limit // _SHARE
        if self._generation != self._cache.generation:  # the index was lost, and these pins with it
            self._generation = self._cache.generation
            self._pinned.clear()
        wanted = set()
        for digest, size in reversed(in_use.items()):
            left -= size
            if left < 0:
                break
            wanted.add(digest)
        for digest in self._pinned - wanted:
            if time.monotonic() > deadline:
                return
            if self._cache.unpin(digest, LABEL):
                self._pinned.remove(digest)
        for digest in wanted:
            if time.monotonic() > deadline:
                return
            if self._cache.size(digest) is None:  # not admitted, or found damaged
                self._pinned.discard(digest)
            elif digest not in self._pinned:
                try:
                    pinned = self._cache.pin(digest, LABEL)
                except CacheError:
                    return  # an operator's pins take the room
                if pinned:
                    self._pinned.add(digest)
