"""The other libraries of a directory, when one of them is missed. Pure.

A program that starts with Python's scientific packages touches directories of large libraries. In most of
these directories it uses all libraries or nearly all (pandas/_libs 10 of 10, scipy/linalg 8 of 8). The
interpreter loads one module after the other, and each first page is a round trip. So the first miss of a
library also fetches the directory's other libraries of up to LARGEST bytes. A replay of such a start waited
for 55 of its 89 libraries, and fetched 11 objects (6 MB) that were not used. If it fetched the other
libraries only after a second miss, it would wait for 64 and fetch 2 objects fewer; if it fetched libraries of
any size, it would wait for 48 and fetch another 10 MB that are not used.

This holds for modules only (`x.so`), which programs load by their paths. Libraries with a version
(`libx.so.1`) are loaded because an ELF file names them (`needed_libraries`). A start needs ten of the 60 in a
system's /usr/lib, and to fetch all of them cost 34 requests and 8 MB.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.catalog.entry import Entry
from lazyfs.prefetch.neighbours import SMALL
from lazyfs.vfs.siblings import Siblings

LARGEST: Final = 2 << 20
"""The largest number of bytes of a library that is fetched after a miss of another library. Larger libraries
are few, and each that is fetched in vain would cost much."""
FILES: Final = 32
"""The largest number of libraries that are fetched after a miss in their directory. If there are more
(/usr/lib has hundreds), none is fetched, because a program uses few of them."""
DIRECTORIES: Final = 1024
"""The largest number of directories that are remembered. The one whose last miss is longest ago is forgotten;
its next miss then fetches its libraries once more."""


class Libraries:
    """Chooses the modules to fetch along with a missed one, once for each directory. Not thread-safe: call it
    under the tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[tuple[int, int], None] = OrderedDict()
        """The directories whose libraries have been returned by `missed`."""

    def missed(self, file: Siblings) -> list[Entry]:
        """Returns the files to fetch after a miss of `file`: first those whose names come after its own, then
        those whose names come before. Empty if `file` is no module, if its directory had a miss before, or if
        there are more than FILES to fetch."""
        if not _is_module(file.entries[file.position].name) or file.directory in self._suggested:
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
    return entry.is_file and entry.size > SMALL and _is_module(entry.name)


def _is_module(name: bytes) -> bool:
    return name.endswith(b".so")
