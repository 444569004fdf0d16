"""Files of the same name in directories beside each other, read one after another. Pure.

Programs that look for what is installed read a file of the same name in each of many directories. Python's
importlib.metadata reads `entry_points.txt` of each distribution; package managers read their descriptions.
The files are small and their packs many: a start of an analysis waited nine times in a row for them.
"""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import ObjectRef
from lazyfs.vfs.siblings import Siblings, later_namesakes

PROOF: Final = 2
"""Number of steps in a row that show such a program. A step goes from a file to one of the same name in
another directory, with no other file read between. Imports are no such steps: they read `__init__.py` in one
package after another, but also other files."""
PACKS: Final = 16
"""The largest number of packs that are fetched at one time."""
DIRECTORIES: Final = 512
"""The largest number of directories in which a file of the same name is looked for."""
PLACES: Final = 1024
"""The largest number of remembered pairs of a file name and the parent of the directories that have such a
file. The packs for a pair are returned once."""


class SameNames:
    """Follows the reads of files in packs. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._last: Siblings | None = None
        self._steps = 0
        self._suggested: OrderedDict[tuple[tuple[int, int], bytes], None] = OrderedDict()

    def read(self, file: Siblings) -> list[ObjectRef]:
        """Notes a read of a file in a pack. If PROOF steps in a row went from a file to one of the same name
        in another directory, returns the packs of such files in the next directories. Otherwise returns an
        empty list."""
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
