"""Parts of large files in which a reader jumps about and leaves little out. Pure.

A Java virtual machine reads the classes of its file of modules, 123 chunks, in the order of the program and
not of the file. A start of a compiler reads 37 of these chunks, nearly all in six runs of neighbours. To a
`readahead.Window` they are jumps, and each missed chunk is a round trip. So a miss near a chunk that was read
before also fetches the nearest chunk that was not. In a replay of that start, 26 chunks were waited for and 2
fetched in vain; with up to four further chunks for each miss, 25 and 10.

A reader who picks chunks from a large data file gets few in vain: what was fetched so and is not read counts
against the file.
"""

from collections import OrderedDict
from typing import Final

REACH: Final = 4
"""The largest distance between near chunks, in chunks."""
IN_VAIN: Final = 4
"""The largest number of a file's chunks that were fetched and not read yet, beyond the number of those that
were read."""
FILES: Final = 256
"""The largest number of files that are remembered; the least recently missed one is forgotten."""
CHUNKS: Final = 512
"""The largest number of chunks of a file that are remembered as read, and as chosen."""


class _File:
    """The chunks of one file."""

    def __init__(self) -> None:
        self.read: OrderedDict[int, None] = OrderedDict()
        self.chosen: OrderedDict[int, None] = OrderedDict()
        """Chunks that `missed` has returned, and that nobody has read since."""
        self.used = 0
        """The number of chosen chunks that were read."""


class DenseParts:
    """Chooses the chunk to fetch along with a missed one; each chunk is chosen once. Files are told apart by
    their content ids (`Entry.content_id`). Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._files: OrderedDict[bytes, _File] = OrderedDict()

    def read(self, content: bytes, chunk: int) -> None:
        """Notes a read of a chunk, missed or not."""
        file = self._files.get(content)
        if file is None:
            file = self._files[content] = _File()
            if len(self._files) > FILES:
                self._files.popitem(last=False)
        if chunk in file.chosen:
            del file.chosen[chunk]
            file.used += 1
        if chunk not in file.read:
            file.read[chunk] = None
            if len(file.read) > CHUNKS:
                file.read.popitem(last=False)

    def missed(self, content: bytes, chunk: int, count: int) -> int | None:
        """Returns the chunk to fetch along with a missed one; None if there is none. `count`: the number of
        the file's chunks. The miss must have been noted as a read."""
        file = self._files.get(content)
        if file is None:
            return None
        self._files.move_to_end(content)
        near = _around(chunk, count)
        if len(file.chosen) >= file.used + IN_VAIN or not any(other in file.read for other in near):
            return None
        for other in near:
            if other not in file.read and other not in file.chosen:
                file.chosen[other] = None
                if len(file.chosen) > CHUNKS:
                    file.chosen.popitem(last=False)
                return other
        return None


def _around(chunk: int, count: int) -> list[int]:
    """Returns the chunks within REACH of a chunk, the nearest first, and of two as near the later one."""
    both = (at for step in range(1, REACH + 1) for at in (chunk + step, chunk - step))
    return [at for at in both if 0 <= at < count]
