"""The distance to fetch ahead of a sequential reader: a window of bytes that grows and shrinks. Pure.

The kernel reads ahead too, 128 KiB by default, which is too little for a round trip to a proxy. At 20 ms a
reader of one 1 MiB chunk at a time gets 50 MB/s at best; with 16 chunks under way it gets the link's speed.
"""

from collections import OrderedDict

FIRST = 2 << 20
"""Bytes that are fetched ahead for a reader that has just turned out to be sequential."""
MOST = 32 << 20
"""The largest number of bytes that are fetched ahead for one reader."""
SLACK = 1 << 20
"""The largest number of bytes between two reads of which the second continues the first: the kernel sends
reads out of order."""
PROOF = 3
"""Number of reads in sequence before anything is fetched ahead: the head of a file is read far more often
than the file (ELF headers, archives' indexes)."""
READERS = 1024
"""The largest number of files that are watched at one time; the least recently read one is forgotten."""


class Window:
    """The read-ahead window of one reader of one file."""

    def __init__(self) -> None:
        self._position = 0
        """Offset up to which the file has been read in sequence."""
        self._asked = 0
        """Offset up to which `read` has returned parts of the file to be fetched ahead."""
        self._refill_at = 0
        """Offset at which the reader has used up half of the last window."""
        self._streak = 0
        self._size = FIRST

    def read(self, offset: int, length: int, size: int) -> tuple[int, int]:
        """Notes a read of [offset, offset + length) of a file of `size` bytes. Returns the range to fetch
        ahead as start and end; start == end if there is nothing to do.

        The window doubles each time the reader has used up half of it, and halves at each jump.
        """
        end = min(offset + length, size)
        if not -SLACK <= offset - self._position <= SLACK:
            self._streak = 0
            self._size = max(self._size // 2, FIRST)
            self._position = self._asked = self._refill_at = end
            return end, end
        self._streak += 1
        self._position = max(self._position, end)
        self._asked = max(self._asked, self._position)
        if self._streak < PROOF or self._position < self._refill_at:
            return end, end
        start = self._asked
        self._refill_at = self._position + self._size // 2
        self._asked = min(self._position + self._size, size)
        if self._asked <= start:
            self._asked = start
            return end, end
        self._size = min(self._size * 2, MOST)
        return start, self._asked


class ReadAhead:
    """The read-ahead windows of a repository's files. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._windows: OrderedDict[int, Window] = OrderedDict()

    def read(self, number: int, offset: int, length: int, size: int) -> tuple[int, int]:
        """Notes a read as `Window.read` does, of the file with this inode number."""
        window = self._windows.get(number)
        if window is None:
            window = self._windows[number] = Window()
            if len(self._windows) > READERS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(number)
        return window.read(offset, length, size)
