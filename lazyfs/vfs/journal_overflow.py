"""The records that the journal's disk does not take, in memory that outlives the process."""

import os
from contextlib import suppress

MOST = 16 << 20
"""The largest number of bytes of records: some 60,000 numbers while the disk is full or fails."""


class JournalOverflow:
    """The end of a file in memory (memfd_create(2)), which a successor gets too."""

    def __init__(self, file: int, start: int, length: memoryview) -> None:
        """`file`: its descriptor, which is never closed. `start`: the records lie from this offset on.
        `length`: one word (format "Q") with the number of their bytes."""
        self._file = file
        self._start = start
        self._length = length
        self.is_full = False
        """True once a record has found no room. None is taken after it: what follows may build on it."""

    @property
    def length(self) -> int:
        """The number of bytes of the records."""
        return self._length[0]

    def append(self, data: bytes) -> bool:
        """Adds a record; returns False if there is no room. A process that is killed meanwhile leaves the
        record out."""
        self.is_full = self.is_full or self.length + len(data) > MOST
        try:
            if self.is_full or os.pwrite(self._file, data, self._start + self.length) < len(data):
                self.is_full = True
                return False
        except OSError:  # no memory
            self.is_full = True
            return False
        self._length[0] += len(data)
        return True

    def read(self) -> bytes:
        """Returns all records."""
        return os.pread(self._file, self.length, self._start)

    def cut(self, length: int) -> None:
        """Leaves only the first `length` bytes of records, and gives the memory of the others back."""
        self._length[0] = length
        self.is_full = False
        with suppress(OSError):  # it stays taken
            os.ftruncate(self._file, self._start + length)
