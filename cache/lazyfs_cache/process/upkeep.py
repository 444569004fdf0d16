"""What a cache does beside its readers: one thread per process that sleeps until there is something to do.

It writes uses to the index, evicts from the high to the low watermark, undoes what dead processes had begun,
and rebuilds an index that was lost.
"""

import os
import threading
import time

from lazyfs_cache.files import layout
from lazyfs_cache.process import recovery
from lazyfs_cache.process.shared_index import Ledger

GATHER = 2.0
"""Seconds uses may gather before they are written."""

LOOK_FOR_DEAD = 30.0
"""Seconds between looks for processes that died."""

_PATIENT = 30.0
"""Seconds the rebuild waits for the change lock before it looks whether it is still wanted."""


class Upkeep:
    """The thread of one cache."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._looked = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="lazyfs-cache", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._stop.set()
        self._ledger.wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        wake = self._ledger.wake
        while True:
            wake.wait()
            wake.clear()
            if self._stop.is_set() or (not self._ledger.uses.urgent and self._stop.wait(GATHER)):
                return
            if self._ledger.off is not None:
                return
            self.run_once()

    def run_once(self) -> None:
        """Everything there is to do now."""
        scanning = self._flush()
        while self._ledger.uses.left and self._flush_more():
            pass
        self._ledger.empty_purse()
        self._lower()
        if scanning:
            self._rebuild()

    def _flush(self) -> bool:
        """Begin a change, which writes what readers left; whether this process has a rebuild to do."""
        ledger = self._ledger
        with ledger.change() as change:
            if change is None:
                return False
            if time.monotonic() > self._looked + LOOK_FOR_DEAD:
                self._looked = time.monotonic()
                recovery.bury(change, ledger.disk, ledger.seat.owners, ledger.seat.me)
            if change.sums.unscanned and not change.sums.scanner:
                change.sums.scanner = ledger.seat.me
            return change.sums.unscanned > 0 and change.sums.scanner == ledger.seat.me

    def _flush_more(self) -> bool:
        with self._ledger.change() as change:
            pass
        return change is not None and change.committed

    def _lower(self) -> None:
        """From above the high watermark to the low one."""
        with self._ledger.change() as change:
            if change is None or change.sums.unscanned or not self._ledger.space.above_high(change.sums):
                return
        self._ledger.shrink(lambda change: self._ledger.space.above_low(change.sums))

    # -- rebuilding ------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """Look at every file once. Interrupted, it is taken up again at the directory it had reached."""
        try:
            if not self._clean_tmp() or not all(self._scan(number) for number in range(recovery.SCANNED)):
                return
        except OSError as error:
            self._ledger.fail(error)
            return
        with self._ledger.change(_PATIENT) as change:
            if change is not None:
                change.sums.scan = recovery.SCANNED
                change.sums.unscanned = 0
        self._ledger.shrink(lambda change: self._ledger.space.need(change, 0))

    def _clean_tmp(self) -> bool:
        ledger = self._ledger
        with os.scandir(os.path.join(ledger.root, layout.TMP)) as found:
            for entry in found:
                if self._stop.is_set():
                    return False
                if recovery.orphaned(entry.name, ledger.seat.owners, ledger.seat.me):
                    ledger.disk.discard_tmp(entry.name)
        return True

    def _scan(self, directory: int) -> bool:
        """Adopt one fan-out directory's files; whether to go on."""
        names: list[str] | None = None
        start = 0
        while names is None or start < len(names):
            with self._ledger.change(_PATIENT) as change:
                if self._stop.is_set() or change is None or change.sums.scanner != self._ledger.seat.me:
                    return False
                if change.sums.scan > directory:
                    return True
                if names is None:
                    names = self._ledger.disk.names(directory)
                batch = names[start : start + recovery.FILES_PER_CHANGE]
                recovery.adopt(change, self._ledger.disk, directory, batch)
                start += len(batch)
                if start == len(names):
                    change.sums.scan = directory + 1
            if not change.committed:
                return False  # the next round takes it up again
        return True
