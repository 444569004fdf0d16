"""Pins the catalogs in use, so that they stay in the cache: no path of an image is found without them.

A catalog that is parsed in memory is not read from the disk again, so the cache would take it for unused and
evict it before any file. A mount that starts anew while the origin cannot be reached would then show nothing.

Pinned space is lost to all other users of the cache. So the space for pins is divided: among the processes
that have the cache open, and within a mount among its repositories.
"""

import time
from collections.abc import Iterable

from lazyfs.client.private_cache import cache_key
from lazyfs.core.digest import Digest
from lazyfs.vfs.held_objects import HeldKey
from lazyfs_cache import Cache, CacheError, NullCache

LABEL = b"catalogs in use"

_SHARE = 4
"""The pinned catalogs of all mounts take at most 1/_SHARE of the cache's limit: the rest is for files."""

PATIENCE = 2.0
"""Timeout of one call, in seconds; the remaining pins are left to the next call. While another process holds
the cache's lock, each pin would wait for it, and the end of the mount would wait for all pins."""


class CatalogPins:
    """The pins of the catalogs that a mount has parsed; they end with its process."""

    def __init__(self, cache: Cache | NullCache) -> None:
        self._cache = cache
        self._pinned: set[Digest] = set()
        self._generation = cache.generation

    def follow(self, in_use: list[tuple[str, HeldKey]]) -> None:
        """Pins the catalogs in use and unpins all other catalogs. `in_use`: the repository of each catalog
        and the catalog's key in the cache, the most recently used catalog last.

        May wait for the cache's lock: call it in a thread, one call at a time.
        """
        deadline = time.monotonic() + PATIENCE
        if self._generation != self._cache.generation:  # the index was lost, and these pins with it
            self._generation = self._cache.generation
            self._pinned.clear()
        wanted = within_shares(in_use, self._cache.stats().limit // _SHARE // self._cache.processes())
        for key in self._pinned - wanted:
            if time.monotonic() > deadline:
                return
            if self._cache.unpin(key, LABEL):
                self._pinned.remove(key)
        for key in wanted:
            if time.monotonic() > deadline:
                return
            if self._cache.size(key) is None:  # not admitted, or found damaged
                self._pinned.discard(key)
            elif key not in self._pinned:
                try:
                    pinned = self._cache.pin(key, LABEL)
                except CacheError:
                    return  # an operator's pins take the room
                if pinned:
                    self._pinned.add(key)


def within_shares(in_use: Iterable[tuple[str, HeldKey]], room: int) -> set[Digest]:
    """Returns the keys of the catalogs to pin. Each repository has an equal share of `room` bytes. It is
    filled with the repository's catalogs from the most recently used one on, as many as fit."""
    by_repository: dict[str, list[HeldKey]] = {}
    for repository, held in in_use:
        by_repository.setdefault(repository, []).append(held)
    wanted = set()
    for catalogs in by_repository.values():
        left = room // len(by_repository)
        for held in reversed(catalogs):
            left -= held.ref.size
            if left < 0:
                break
            wanted.add(cache_key(held.namespace, held.ref.digest))
    return wanted
