"""Opening a cache: this process enters, and joins the index that is in use."""

import os
import threading
from contextlib import ExitStack

from lazyfs_cache.errors import CacheError
from lazyfs_cache.files import directory, layout
from lazyfs_cache.files.state_file import Policy
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.process.agreement import check_limit
from lazyfs_cache.process.current_index import CurrentIndex
from lazyfs_cache.process.health import Health
from lazyfs_cache.process.locks import IndexLock
from lazyfs_cache.process.membership import enter
from lazyfs_cache.process.recent_uses import RecentUses
from lazyfs_cache.process.settling import Settling
from lazyfs_cache.process.shared_index import PATIENCE, SharedIndex
from lazyfs_cache.process.suspects import Suspects


def open_shared_index(
    root: str,
    limit: int | None,
    uses: RecentUses,
    suspects: Suspects,
    wake: threading.Event,
    *,
    keep_free: int,
    fsync: bool,
    lock_timeout: float,
    policy: Policy | None,
) -> SharedIndex:
    """Opens the index, with the options of `open_cache`. Raises CacheError, OSError, lmdb.Error,
    IndexDamaged."""
    if limit is not None:
        check_limit(root, limit)
    directory.prepare(root, new=limit is not None)
    health = Health(root)
    with ExitStack() as undo:
        lock = IndexLock(os.path.join(root, layout.LOCK))
        undo.callback(lock.close)
        files = ValueFiles(root, fsync=fsync)
        undo.callback(files.close)
        with lock.held(max(lock_timeout, PATIENCE)) as held:
            if not held:
                raise CacheError(f"cache {root}: another process holds its lock; look for a stopped one")
            membership = enter(root, lock, limit, policy)
            undo.callback(membership.close)
            current = CurrentIndex(
                membership, files, suspects, health, wake, keep_free=keep_free, limit=limit
            )
            undo.callback(current.close)
            settling = Settling(files, uses, suspects)
            shared = SharedIndex(lock, membership, current, settling, files, health, timeout=lock_timeout)
        undo.pop_all()
    return shared
