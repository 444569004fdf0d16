"""The rebuild of a lost index: looks at every value's file once, in batches, beside the readers. The files
lie in 256 fan-out directories under data/."""

import os
import threading

from lazyfs_cache.files import layout
from lazyfs_cache.process import adopting
from lazyfs_cache.process.room import Room
from lazyfs_cache.process.shared_index import SharedIndex

_PATIENCE = 30.0
"""Seconds that a rebuild waits for the index lock before it checks if it must stop."""


class Rebuild:
    """The rebuild of one cache; `stop` is set to end it early."""

    def __init__(self, shared: SharedIndex, room: Room, stop: threading.Event) -> None:
        self._shared = shared
        self._room = room
        self._stop = stop

    def run(self) -> None:
        """Looks at every file once. An interrupted rebuild goes on at the directory it had reached."""
        try:
            if not self._clean_tmp() or not all(self._scan(number) for number in range(adopting.SCANNED)):
                return
        except OSError as error:
            self._shared.health.fail(error)
            return
        with self._shared.transaction(_PATIENCE) as transaction:
            if transaction is not None:
                transaction.sums.scan = adopting.SCANNED
                transaction.sums.unscanned = 0
        self._room.make(0)

    def _clean_tmp(self) -> bool:
        """Removes the temporary files of dead processes. Returns False if the rebuild must stop."""
        shared = self._shared
        with os.scandir(os.path.join(shared.files.root, layout.TMP)) as found:
            for entry in found:
                if self._stop.is_set():
                    return False
                if adopting.orphaned(entry.name, shared.owners, shared.generation.owner):
                    shared.files.discard_tmp(entry.name)
        return True

    def _scan(self, directory: int) -> bool:
        """Adopts one fan-out directory's files. Returns False if the rebuild must stop."""
        shared = self._shared
        names: list[str] | None = None
        start = 0
        while names is None or start < len(names):
            with shared.transaction(_PATIENCE) as transaction:
                if self._stop.is_set() or transaction is None:
                    return False
                sums = transaction.sums
                if sums.scanner != shared.generation.owner:
                    return False
                if sums.scan > directory:
                    return True
                if names is None:
                    names = shared.files.names(directory)
                batch = names[start : start + adopting.FILES_PER_TRANSACTION]
                adopting.adopt(transaction, shared.files, directory, batch)
                start += len(batch)
                if start == len(names):
                    sums.scan = directory + 1
            if not transaction.committed:
                return False  # the next round goes on with it
        return True
