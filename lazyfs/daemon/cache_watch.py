"""Watches the cache of a mount: every few seconds measures its occupied space and pins the catalogs in
use."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from lazyfs.vfs.held_objects import HeldKey

if TYPE_CHECKING:
    from lazyfs_cache import Cache, NullCache

INTERVAL = 5.0
"""Seconds between measurements."""

log = logging.getLogger(__name__)


class CacheWatch:
    """Keeps a recent measurement of the cache for `df`, which must not wait for the cache's lock."""

    def __init__(self) -> None:
        self._space: tuple[int, int] | None = None

    def space(self) -> tuple[int, int] | None:
        """Returns (limit, occupied) in bytes as measured last; None without a cache, and until it is
        opened."""
        return self._space

    def look(self, cache: "Cache | NullCache") -> None:
        """Measures the cache; may wait for its lock."""
        stats = cache.stats()
        self._space = (stats.limit, stats.charged) if stats.limit else None

    async def run(
        self, cache: "Cache | NullCache", catalogs_in_use: Callable[[], list[tuple[str, HeldKey]]]
    ) -> None:
        """Measures the cache and pins the catalogs in use, again and again until cancelled."""
        import trio  # imported only here: a mount measures once before its event loop is loaded

        from lazyfs.daemon.catalog_pins import CatalogPins

        pins = CatalogPins(cache)
        while True:
            await trio.sleep(INTERVAL)
            try:
                await trio.to_thread.run_sync(pins.follow, catalogs_in_use())
                await trio.to_thread.run_sync(self.look, cache)
            except Exception:  # only this measurement fails, not the mount
                log.exception("looking at the cache")
