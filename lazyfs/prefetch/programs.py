"""Shared objects and executables: a reader of one will want most of it, in any order. Pure.

The dynamic linker and page faults read a library at scattered places, and each missing chunk is a round trip
of waiting. So the first miss in a program also fetches the program's other chunks. A program is known by its
name (`*.so`, `*.so.1`), or by executable bit and ELF magic once its first chunk is here. Data files are not
fetched ahead: their random readers want the chunks they touch and no others.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef

MAGIC: Final = b"\x7fELF"
MOST: Final = 64 << 20
"""The largest number of plaintext bytes of one file that are fetched after one miss: as many as the queue
takes. A later miss in the rest of the file fetches as many again."""
FILES: Final = 1024
"""The largest number of files that are remembered. The one whose last miss is longest ago is forgotten; its
chunks may then be returned by `touched` once more."""
_LIBRARY: Final = re.compile(rb"\.so(\.[0-9]+)*$")

Head = Callable[[], bytes | None]
"""A function that returns the first len(MAGIC) bytes of a file; None if they are not in the cache."""


class Programs:
    """Chooses the chunks to fetch along with a missed one; each chunk is chosen once. Not thread-safe: call
    it under the tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[bytes, set[int]] = OrderedDict()
        """For each file, by its content id (`Entry.content_id`), the indexes of the chunks that were missed
        or that `touched` has chosen."""

    def touched(self, entry: Entry, chunks: ChunkList, offset: int, head: Head) -> list[ObjectRef]:
        """Returns the chunks to fetch when bytes at `offset` were missing or have just been fetched: first
        the chunks after them, then those before.

        Empty for a file that is not a program, and for a chunk that this method has chosen before.
        """
        if not is_program(entry, head):
            return []
        suggested = self._suggested.setdefault(entry.content, set())
        self._suggested.move_to_end(entry.content)
        if len(self._suggested) > FILES:
            self._suggested.popitem(last=False)
        start, count = offset >> entry.detail, len(chunks)
        if start in suggested:
            return []
        window = [(start + step) % count for step in range(min(count, MOST >> entry.detail or 1))]
        found = [index for index in window if index not in suggested]
        suggested.update(found)
        return [chunks.chunk(index) for index in found if index != start]


def is_library(name: bytes) -> bool:
    """Returns True for the name of a shared library: `x.so`, `x.so.1`."""
    return _LIBRARY.search(name) is not None


def is_program(entry: Entry, head: Head) -> bool:
    """Returns True for a library by its name, and for an executable by its mode and first bytes."""
    if is_library(entry.name):
        return True
    return bool(entry.mode & 0o111) and (head() or b"").startswith(MAGIC)
