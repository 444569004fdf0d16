"""Fetches, on a guess, the libraries that a program needs, and the libraries that those need in turn."""

import logging
import threading
from typing import Final

import trio

from lazyfs.client.objects import Objects
from lazyfs.client.system_task import begin
from lazyfs.core.errors import LazyfsError
from lazyfs.prefetch.guesses import Guesses
from lazyfs.prefetch.needed_libraries import NeededLibraries
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import Need, NeedDecoding, NeedRepository
from lazyfs.vfs.paths_in_images import FileInImage
from lazyfs.vfs.slots import Slot

ROUNDS: Final = 16
"""The largest number of catalogs fetched and directories decoded for one file's libraries; a path inside an
image needs few."""

log = logging.getLogger(__name__)


class NeededByPrograms:
    """Fetches the libraries that programs of one repository need. Belongs to one trio run."""

    def __init__(self, objects: Objects, entries: Entries, lock: threading.Lock, guesses: Guesses) -> None:
        self._needed = NeededLibraries(entries, objects)
        self._lock = lock
        self._guesses = guesses

    def arrived(self, file: FileInImage, top: Slot | None) -> None:
        """Begins to fetch the libraries of a program of which at least a part has arrived. `top`: the slot of
        its image."""
        if top is not None:
            begin(self._find, file, top, name="needed libraries")

    def fetch(self, files: list[FileInImage], top: Slot | None) -> None:
        """Fetches libraries on a guess, and the libraries that they need."""
        self._guesses.add(files, lambda file: self.arrived(file, top))

    async def _find(self, file: FileInImage, top: Slot) -> None:
        # A system task: an error that escapes would end the whole trio run.
        try:
            asked = await trio.to_thread.run_sync(self._needed.asked, file)
            if asked is not None and asked.needed:
                for _ in range(ROUNDS):
                    try:
                        with self._lock:
                            found = self._needed.find(asked, file.directory, top)
                    except NeedDecoding as need:
                        keep = await trio.to_thread.run_sync(need.decode)
                        with self._lock:
                            keep()
                    except Need as need:
                        if not all([await self._guesses.fetch(ref) for ref in need.refs]):
                            return
                    else:
                        self.fetch(found, top)
                        return
        except (Need, NeedRepository, OSError, LazyfsError):
            return  # a guess that came to nothing
        except Exception:
            log.exception("libraries that a program needs")
