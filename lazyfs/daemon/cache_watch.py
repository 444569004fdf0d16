"""Watches the cache of a mount: every few seconds measures its occupied space and pins the catalogs in
use."""

import logging
from collections.abc import Callable

from lazyfs.daemon.catalog_pins import CatalogPins
from lazyfs.vfs.held_objects import HeldKey
from lazyfs_cache import Cache, NullCache

INTERVAL = 5.0
"""Seconds between measurements."""

log = logging.getLogger(__name__)


class CacheWatch:
    """Keeps a recent measurement of the cache for `df`, which must not wait for the cache's lock."""

    def __init__(self, cache: Cache | NullCache) -> None:
        self._cache = cache
        self._pins = CatalogPins(cache)
        self._space: tuple[int, int] | None = None

    def space(self) -> tuple[int, int] | None:
        """Returns (limit, occupied) in bytes as measured last; None without a cache."""
        return self._space

    def look(self) -> None:
        """Measures the cache; may wait for its lock."""
        stats = self._cache.stats()
        self._space = (stats.limit, stats.charged) if stats.limit else None

    async def run(self, catalogs_in_use: Callable[[], list[tuple[str, HeldKey]]]) -> None:
        """Measures the cache and pins the catalogs in use, again and again until cancelled."""
        import trio  # imported only here: a mount measures once before its event loop is loaded

        while True:
            await trio.sleep(INTERVAL)
            try:
                await trio.to_thread.run_sync(self._pins.follow, catalogs_in_use())
                await trio.to_thread.run_sync(self.look)
            except Exception:  # only this measurement fails, not the mount
                log.exception("looking at the cache")
