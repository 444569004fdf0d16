"""The bytes of a profile that were fetched ahead and that nobody has used yet, and the bound on them.

A profile's list may be stale, wrong or hostile. So what it may fetch depends on what of it is used: FREE
bytes on trust, and for each byte that a reader has used GAIN bytes more, for the first ones FIRST_GAIN.
"""

import threading
from collections.abc import Callable
from typing import Final

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.profile import counted

FREE: Final = 2_000_000
"""The largest number of plaintext bytes that are fetched for a profile before a reader uses any of them; the
profile itself does not count."""
GAIN: Final = 8
"""For each plaintext byte that a reader has used, a profile may fetch this many more. On a slow line a start
has at any time used about a tenth of the bytes that have come; with a smaller factor the bound would slow it
down."""

FIRST_GAIN: Final = 32
"""The same factor for the first bytes that are used: once a list proves right, it may fill the network line.
Computed for a start of an analysis, on a line of 50 ms and 100 Mbit/s: with GAIN alone it waits once or twice
more, one time after the other."""
FIRST: Final = 16 << 20
"""The largest number of bytes that FIRST_GAIN allows."""


class UnusedWindow:
    """The bytes of one profile's objects that are on their way or in the cache, and still unused. `use` may
    be called from any thread."""

    def __init__(self, free: int = FREE) -> None:
        self._free = free
        self._unused: dict[Digest, int] = {}
        self._seen: set[Digest] = set()
        """The objects that have been counted, as unused or used."""
        self._lock = threading.Lock()
        self.unused_bytes = 0
        self.used_bytes = 0
        self.exhausted = False
        """True while nothing more is fetched for the profile: a reader must first use something that was
        fetched."""
        self.on_use: set[Callable[[], None]] = set()
        """Functions that are called after each use, in the thread of the reader."""

    def has_room(self, size: int) -> bool:
        """Returns True if an object of `size` bytes may be fetched now."""
        used = self.used_bytes
        allowed = self._free + max(GAIN * used, min(FIRST_GAIN * used, FIRST))
        return self.unused_bytes + counted(size) <= allowed

    def begin(self, ref: ObjectRef) -> None:
        """Counts an object among the unused ones, unless it was counted before: it is about to be
        fetched."""
        with self._lock:
            if ref.digest not in self._seen:
                self._seen.add(ref.digest)
                self._unused[ref.digest] = ref.size
                self.unused_bytes += counted(ref.size)

    def ask(self, ref: ObjectRef) -> None:
        """Notes that a reader asks for an object of the profile's list before the profile does: it counts as
        used, since the list was right. Otherwise a list that begins with an object of more than FREE bytes,
        which is never fetched on trust, would be given up."""
        with self._lock:
            known = ref.digest in self._seen
            if not known:
                self._seen.add(ref.digest)
                self.used_bytes += ref.size
        if not known:
            self._tell()

    def use(self, digest: Digest) -> None:
        """Notes that a reader has used an object. Does nothing for an object that is not counted as
        unused."""
        with self._lock:
            size = self._unused.pop(digest, 0)
            if size:
                self.unused_bytes -= counted(size)
                self.used_bytes += size
        if size:
            self._tell()

    def _tell(self) -> None:
        for tell in tuple(self.on_use):
            tell()
