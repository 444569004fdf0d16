"""`open_cache`, and the caches this process has open: one for each directory, however often it is opened
(LMDB must not open a file twice in one process)."""

import logging
import os
import threading

from lazyfs_cache.cache import Cache
from lazyfs_cache.errors import UnusableDirectory
from lazyfs_cache.files import layout
from lazyfs_cache.files.ownership import check_way
from lazyfs_cache.files.state_file import Policy
from lazyfs_cache.index.faults import IndexDamaged, IndexFailure
from lazyfs_cache.process.admission import Admission
from lazyfs_cache.process.cache_parts import CacheParts
from lazyfs_cache.process.download_locks import DownloadLocks
from lazyfs_cache.process.open_index import open_shared_index
from lazyfs_cache.process.pinning import Pinning
from lazyfs_cache.process.recent_uses import RecentUses
from lazyfs_cache.process.room import Room
from lazyfs_cache.process.suspects import Suspects
from lazyfs_cache.process.upkeep import Upkeep

log = logging.getLogger("lazyfs_cache")

_guard = threading.Lock()
_open: dict[str, tuple[Cache, int]] = {}


def open_cache(
    directory: str,
    limit: int | None,
    *,
    keep_free: int = 0,
    fsync: bool = False,
    lock_timeout: float = 2.0,
    policy: Policy | None = None,
    upkeep: bool = True,
) -> Cache:
    """Opens or makes the cache in `directory`. If this process has it open already, returns the same object.

    limit: bytes of disk the directory may occupy, everything included, at least `sizes.MIN_LIMIT`. The first
    process to open the cache sets the limit; a process that joins takes the limit in force. None takes the
    limit last in force, and makes no new cache. keep_free: bytes of the filesystem that are left free under
    any limit. fsync: flush values to the disk before they are admitted (this is optional: a torn value is
    found by its checksums and evicted). lock_timeout: seconds after which a transaction stops waiting for the
    lock on the index. policy: order of eviction: the least recently used value first ("lru"), or SIEVE's
    choice ("sieve"). The first process sets the policy too; None is the one last in force, LRU in a new
    cache. upkeep: start a thread for the cache's upkeep; without it, call `Cache.upkeep`.

    Raises CacheError; its subclass UnusableDirectory if another directory would work.
    """
    root = os.path.realpath(directory)
    with _guard:
        if root in _open:
            cache, holders = _open[root]
            _open[root] = cache, holders + 1
            _say_what_is_in_force(cache, limit, policy)
            return cache
        wake = threading.Event()
        uses, suspects = RecentUses(wake), Suspects(wake)
        try:
            check_way(directory)
            shared = open_shared_index(
                root,
                limit,
                uses,
                suspects,
                wake,
                keep_free=keep_free,
                fsync=fsync,
                lock_timeout=lock_timeout,
                policy=policy,
            )
            downloads = DownloadLocks(os.path.join(root, layout.DOWNLOADS), shared.health)
        except (OSError, IndexFailure, IndexDamaged) as error:
            raise UnusableDirectory(f"cache {directory}: {error}; give another directory") from error
        room = Room(shared)
        parts = CacheParts(shared, room, uses, suspects, wake)
        keeper = Upkeep(parts)
        cache = Cache(parts, Admission(parts), Pinning(shared, room), downloads, keeper, _close_one)
        _open[root] = cache, 1
    room.fit()
    _say_what_is_in_force(cache, limit, policy)
    if upkeep:
        keeper.start()
    return cache


def _say_what_is_in_force(cache: Cache, limit: int | None, policy: Policy | None) -> None:
    stats = cache.stats()
    if stats.limit and (limit not in (None, stats.limit) or policy not in (None, stats.policy)):
        log.info(
            "cache %s: in use with limit %d and policy %s, which stay (asked for: %s, %s)",
            cache.root, stats.limit, stats.policy, limit, policy,
        )  # fmt: skip


def _close_one(root: str) -> bool:
    """Closes the cache for one of those who have opened it in this process. Returns True if it was the last
    of them."""
    with _guard:
        if root not in _open:
            return False
        cache, holders = _open.pop(root)
        if holders > 1:
            _open[root] = cache, holders - 1
            return False
        return True


def _after_fork_in_child() -> None:
    global _guard  # noqa: PLW0603 (another thread may have held it)
    _guard = threading.Lock()
    for cache, _ in _open.values():
        cache.abandon()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
