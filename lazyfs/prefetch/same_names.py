"""Files of one name in one directory after another. Pure.

Programs that look for what is installed read one name in each of many directories beside each other: Python's
importlib.metadata `entry_points.txt` of each distribution, package managers their descriptions. The files are
small and their packs many: a start of an analysis waited nine times in a row for them.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import ObjectRef
from lazyfs.vfs.siblings import Siblings, later_namesakes

PROOF: Final = 2
"""Steps from a file to its namesake in a later directory, without another file between, that tell such a
program from others: `__init__.py` is read in one package after the other too, but with more beside it."""
PACKS: Final = 16
"""Packs that come along."""
DIRECTORIES: Final = 512
"""Directories in which the name is looked for."""
PLACES: Final = 1024
"""Directories above remembered, with the name: a place is suggested once."""


class SameNames:
    """Follows the files that are read in packs. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._last: Siblings | None = None
        self._steps = 0
        self._suggested: OrderedDict[tuple[tuple[int, int], bytes], None] = OrderedDict()

    def read(self, file: Siblings) -> list[ObjectRef]:
        """Takes a read of a file in a pack. Returns the packs in which files of its name lie, of the
        directories after its own, if it went on from namesake to namesake PROOF times."""
        last, self._last = self._last, file
        if last is None or last.parent is None or last.directory == file.directory:
            return []  # most reads are of the same file, or of one beside it
        name = file.entries[file.position].name
        if last.parent != file.parent or last.entries[last.position].name != name:
            self._steps = 0
            return []
        self._steps += 1
        place = (last.parent, name)
        if self._steps < PROOF or place in self._suggested:
            return []
        self._suggested[place] = None
        if len(self._suggested) > PLACES:
            self._suggested.popitem(last=False)
        return later_namesakes(file, DIRECTORIES, PACKS)
