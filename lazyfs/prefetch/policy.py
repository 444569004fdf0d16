"""The choice of objects to fetch next, from the reads so far. Pure: a simulation can run it over a log of
reads."""

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import ObjectRef
from lazyfs.prefetch.dense_parts import DenseParts
from lazyfs.prefetch.libraries import Libraries
from lazyfs.prefetch.neighbours import Neighbours
from lazyfs.prefetch.programs import Head, Programs, is_library
from lazyfs.prefetch.python_packages import PythonPackages
from lazyfs.prefetch.readahead import ReadAhead
from lazyfs.prefetch.same_names import SameNames
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.siblings import Siblings

QUIET = 512
"""The number of reads in succession that found all their bytes in the cache, after which reads choose nothing
to fetch until one has to wait. The start of a warm image makes over two thousand reads; their choices took a
tenth of the daemon's processor time and never fetched anything."""


class PrefetchPolicy:
    """The policy of one repository. Each method returns the objects to fetch, in the order of their worth.

    Not thread-safe: call it under the tree's lock.
    """

    def __init__(self) -> None:
        self._readahead = ReadAhead()
        self._dense_parts = DenseParts()
        self._neighbours = Neighbours()
        self._programs = Programs()
        self._libraries = Libraries()
        self._same_names = SameNames()
        self._packages = PythonPackages()

    def on_packed(self, file: Siblings) -> list[ObjectRef]:
        """Returns the objects to fetch after a read of a file in a pack. If the read has to wait, call this
        before `on_miss`."""
        self._neighbours.read(file)
        return self._packages.read(file) + self._same_names.read(file)

    def on_read(self, read: ReadPlan) -> list[ObjectRef]:
        """Returns the objects to fetch when this read begins: the next ones of the file, if its reader is
        sequential."""
        if read.chunks is None:
            return []
        self._dense_parts.read(read.entry.content, read.offset >> read.entry.detail)
        start, end = self._readahead.read(read.number, read.offset, read.length, read.entry.size)
        return [part.ref for part in read.chunks.slices(start, end - start)]

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, head: Head) -> list[ObjectRef]:
        """Returns the objects to fetch when this read has to wait. The read counts a second time for the
        read-ahead: a reader who waits for the network needs less proof of being sequential than one who does
        not."""
        found = self.on_read(read)
        if siblings is not None:
            found += self._neighbours.missed(siblings)
        if read.chunks is not None and not is_library(read.entry.name):  # a library comes whole
            number = read.offset >> read.entry.detail
            near = self._dense_parts.missed(read.entry.content, number, len(read.chunks))
            if near is not None and read.chunks.chunk(near) not in found:
                found.append(read.chunks.chunk(near))
        return found + self.on_arrival(read, head)

    def on_arrival(self, read: ReadPlan, head: Head) -> list[ObjectRef]:
        """Returns the objects to fetch when the wait of this read has ended: an executable can be recognised
        by its first bytes now."""
        if read.chunks is None:
            return []
        return self._programs.touched(read.entry, read.chunks, read.offset, head)

    def libraries(self, siblings: Siblings) -> list[Entry]:
        """Returns the files to fetch along with a library that was missed. `siblings`: the directory around
        the library."""
        return self._libraries.missed(siblings)
