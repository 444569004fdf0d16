"""The other libraries of a directory, once two of them were missed. Pure.

Of the directories of large libraries that a start of Python's scientific packages touches, most are used
wholly or nearly so (pandas/_libs 10 of 10, scipy/linalg 8 of 9, pyarrow 9 of 21): the loader opens one after
the other, and each first page is a round trip. One missed library is no sign yet: a program may load one
plug-in of many.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.prefetch.neighbours import SMALL
from lazyfs.prefetch.programs import is_library
from lazyfs.vfs.siblings import Siblings

LARGEST: Final = 16 << 20
"""Bytes of a library that is guessed. Larger ones are few, and a wrong guess would cost a start's bytes."""
FILES: Final = 32
"""Libraries guessed in one directory: of a directory of hundreds (/usr/lib) a program uses few."""
DIRECTORIES: Final = 1024
"""Directories remembered; the one whose last miss is longest ago is forgotten, and may be guessed again."""


class Libraries:
    """Suggests the libraries of each directory once. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._missed: OrderedDict[tuple[int, int], set[int]] = OrderedDict()
        """Positions of the large libraries missed, by directory; empty once the others were suggested."""

    def missed(self, file: Siblings) -> list[Entry]:
        """Returns the files to fetch after a miss of `file`, nearest names first. Empty for a file that is no
        large library, for the first of a directory, and for directories of more than FILES."""
        if not _is_large(file.entries[file.position]):
            return []
        missed = self._missed.get(file.directory)
        if missed is None:
            self._missed[file.directory] = {file.position}
            if len(self._missed) > DIRECTORIES:
                self._missed.popitem(last=False)
            return []
        self._missed.move_to_end(file.directory)
        if not missed or file.position in missed:
            return []
        missed.add(file.position)
        count = len(file.entries)
        around = ((file.position + step) % count for step in range(1, count))
        found = [file.entries[at] for at in around if at not in missed and _is_large(file.entries[at])]
        missed.clear()
        return found if len(found) <= FILES else []


def _is_large(entry: Entry) -> bool:
    return entry.is_file and SMALL < entry.size <= LARGEST and is_library(entry.name)
