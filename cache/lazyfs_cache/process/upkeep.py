"""Upkeep beside the readers: one thread per process, which sleeps until there is work.

It writes uses of values to the index, evicts values down to the low watermark when the charges are above the
high one, cleans up after dead processes, and rebuilds an index that was lost.
"""

import threading
import time

from lazyfs_cache.policy.limits import Limits
from lazyfs_cache.process.cache_parts import CacheParts
from lazyfs_cache.process.rebuild import Rebuild
from lazyfs_cache.process.recovery import clean_up_dead

GATHER = 2.0
"""Seconds for which uses gather before they are written, unless there are many."""

LOOK_FOR_DEAD = 30.0
"""Seconds between looks for processes that died."""


class Upkeep:
    """The thread of one cache."""

    def __init__(self, parts: CacheParts) -> None:
        self._shared, self._room, self._uses, self._suspects, self._wake = parts
        self._stop = threading.Event()
        self._rebuild = Rebuild(parts.shared, parts.room, self._stop)
        self._looked = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="lazyfs-cache", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; returns when it has ended."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            urgent = bool(self._suspects) or self._uses.many
            if self._stop.is_set() or (not urgent and self._stop.wait(GATHER)):
                return
            if self._shared.health.off is not None:
                return
            self.run_once()

    def run_once(self) -> None:
        """Does the work that there is now."""
        rebuilding = self._settle()
        while (self._uses.left or self._suspects) and self._shared.settle():
            pass
        self._room.give_back_idle()
        if self._room.above_high():
            self._room.shrink(Limits.above_low)
        if rebuilding:
            self._rebuild.run()

    def _settle(self) -> bool:
        """Makes a transaction that writes what the index lacks (`settling`), and from time to time cleans up
        after dead processes. Returns True if this process has a rebuild to do."""
        shared = self._shared
        with shared.transaction() as transaction:
            if transaction is None:
                return False
            owner, sums = shared.generation.owner, transaction.sums
            if time.monotonic() > self._looked + LOOK_FOR_DEAD:
                self._looked = time.monotonic()
                clean_up_dead(transaction, shared.files, shared.owners, owner)
            if sums.unscanned and not sums.scanner:
                sums.scanner = owner
            return sums.unscanned > 0 and sums.scanner == owner
