"""Objects that were read a moment ago: a pack is read once for the hundreds of files in it."""

from collections import OrderedDict
from collections.abc import Callable

from lazyfs.core.digest import ObjectRef

MOST = 64 << 20
"""Bytes that are kept: packs have about 1 MiB, and a tree in the order of names goes back and forth among the
packs of its layers."""


class RecentObjects:
    """Reads objects, and keeps the most recently used ones."""

    def __init__(self, read: Callable[[ObjectRef], bytes], most: int = MOST) -> None:
        self._read = read
        self._left = most
        self._kept: OrderedDict[ObjectRef, bytes] = OrderedDict()

    def __call__(self, ref: ObjectRef) -> bytes:
        """Returns an object's plaintext. Raises as the function that reads it."""
        plain = self._kept.get(ref)
        if plain is not None:
            self._kept.move_to_end(ref)
            return plain
        plain = self._read(ref)
        self._kept[ref] = plain
        self._left -= len(plain)
        while self._left < 0:
            _, oldest = self._kept.popitem(last=False)
            self._left += len(oldest)
        return plain
