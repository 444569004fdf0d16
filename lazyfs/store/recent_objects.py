"""Keeps in memory the objects that were read last, so that they are not read again. In a publish these are
the catalogs that lead to images; in an export they are packs, each with hundreds of files."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from lazyfs.core.digest import ObjectRef

MOST = 64 << 20
"""The default for the largest number of bytes that are kept: packs have about 1 MiB, and a program that reads
an image's files in the order of their names goes back and forth among the packs of its layers."""


class RecentObjects:
    """Reads objects, and keeps the most recently used ones: an object never changes. Safe to use from several
    threads."""

    def __init__(self, read: Callable[[ObjectRef], bytes], most: int = MOST) -> None:
        """`read` returns an object's verified plaintext (`store.reader`). `most`: the largest number of bytes
        that are kept."""
        self._read = read
        self._left = most
        self._kept: OrderedDict[ObjectRef, bytes] = OrderedDict()
        self._mutex = threading.Lock()

    def __call__(self, ref: ObjectRef) -> bytes:
        """Returns an object's plaintext. Raises the exceptions of `read`."""
        with self._mutex:
            plain = self._kept.get(ref)
            if plain is not None:
                self._kept.move_to_end(ref)
                return plain
        plain = self._read(ref)  # two threads may read one object side by side
        with self._mutex:
            if ref not in self._kept:
                self._kept[ref] = plain
                self._left -= len(plain)
            while self._left < 0:
                _, oldest = self._kept.popitem(last=False)
                self._left += len(oldest)
        return plain
