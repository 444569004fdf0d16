"""The other libraries of a directory, when one of them is missed. Pure.

Of the directories of large libraries that a start of Python's scientific packages touches, most are used
wholly or nearly so (pandas/_libs 10 of 10, scipy/linalg 8 of 8, pyarrow 9 of 21): the loader opens one after
the other, and each first page is a round trip. The first miss brings libraries of up to LARGEST bytes along:
replayed on such a start, 55 files of 89 were waited for, 11 requests and 6 MB were in vain. Waiting for a
second miss would leave 64 waits and save 2 requests; bringing larger libraries would save 7 more waits for
another 10 MB in vain.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.prefetch.neighbours import SMALL
from lazyfs.prefetch.programs import is_library
from lazyfs.vfs.siblings import Siblings

LARGEST: Final = 2 << 20
"""Bytes of a library that comes along. Larger ones are few, and one fetched in vain would cost much."""
FILES: Final = 32
"""Libraries that come along in one directory: of a directory of hundreds (/usr/lib) a program uses few."""
DIRECTORIES: Final = 1024
"""Directories remembered; the one whose last miss is longest ago is forgotten, and may be guessed again."""


class Libraries:
    """Suggests the libraries of each directory once. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[tuple[int, int], None] = OrderedDict()
        """The directories whose libraries were suggested."""

    def missed(self, file: Siblings) -> list[Entry]:
        """Returns the files to fetch after a miss of `file`, nearest names first. Returns none for a file
        that is no library, for later misses in the same directory, and for a directory of more than FILES
        libraries."""
        if not is_library(file.entries[file.position].name) or file.directory in self._suggested:
            return []
        self._suggested[file.directory] = None
        if len(self._suggested) > DIRECTORIES:
            self._suggested.popitem(last=False)
        count = len(file.entries)
        around = ((file.position + step) % count for step in range(1, count))
        found = [file.entries[at] for at in around if _comes_along(file.entries[at])]
        return found if len(found) <= FILES else []


def _comes_along(entry: Entry) -> bool:
    if entry.pack_number >= 0 or entry.size > LARGEST:  # a pack comes with the files that are read beside it
        return False
    return entry.is_file and entry.size > SMALL and is_library(entry.name)
