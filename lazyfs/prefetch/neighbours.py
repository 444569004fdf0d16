"""Which files a reader is likely to want next: small ones in the same directory as the one just missed.

Programs read their small files directory by directory (a Python package, a tree of headers, a set of
calibrations), one after the other, and each miss is a round trip. Fetching the directory's small files along
with the first of them cut the waits of a Python analysis start (2,187 objects, 254 MB) to a third for 6% more
bytes, replayed on its log of requests.
"""

from collections import OrderedDict

from lazyfs.core.digest import ObjectRef
from lazyfs.vfs.inode_numbers import SPREAD, unpack
from lazyfs.vfs.missing_objects import NOTHING, Brought
from lazyfs.vfs.tree import Tree

SMALL = 64 << 10
"""Bytes of a file that is fetched unasked, at most; larger ones are rarely read together."""
BATCH_BYTES = 1 << 20
"""Plaintext bytes fetched unasked for one miss: 0.1 s of a 100 Mbit/s line at most."""
BATCH_FILES = 128
DIRECTORIES = 1024
"""Directories remembered; the least recently missed in is forgotten, and may be fetched for again."""


class Neighbours:
    """What has been suggested already. Not thread-safe: call it under the tree's lock."""

    def __init__(self) -> None:
        self._suggested: OrderedDict[tuple[int, int], set[int]] = OrderedDict()

    def missed(self, tree: Tree, number: int, brought: Brought = NOTHING) -> list[ObjectRef]:
        """The file with this number was not at hand: the objects to fetch with it, nearest names first.

        Empty for a file that was suggested itself, since its batch is under way, and for a file that several
        images share (`copies`), which has no one directory. Raises Need if the file's catalog is not at hand.
        """
        if tree.copies.get(number) is not None or unpack(number)[1] & SPREAD:
            return []
        slot, index = tree.slot(number)
        catalog = tree.catalog(slot, brought)
        directory = catalog.directory(catalog.container(index))
        place = (slot.number, directory.number)
        suggested = self._suggested.setdefault(place, set())
        self._suggested.move_to_end(place)
        if len(self._suggested) > DIRECTORIES:
            self._suggested.popitem(last=False)
        position = index - directory.first
        if position in suggested:
            return []
        suggested.add(position)
        batch: list[ObjectRef] = []
        size = 0
        count = len(directory.entries)
        for step in range(1, count):
            other = (position + step) % count
            ref = directory.entries[other].whole
            if ref is None or ref.size > SMALL or other in suggested:
                continue
            size += ref.size
            if size > BATCH_BYTES or len(batch) == BATCH_FILES:
                break
            suggested.add(other)
            batch.append(ref)
        return batch
