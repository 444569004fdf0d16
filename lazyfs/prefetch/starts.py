"""Tells an observer of each read in an image: the image, and the file's path in it. The daemon's observer
makes reports of programs' starts from these reads."""

from typing import Protocol

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.paths_in_images import place_of


class ReadWatcher(Protocol):
    """An observer of reads in images. Its methods are called under the filesystem's lock and from any thread,
    and must return at once."""

    def waits_for(self, image: Digest, /) -> bool:
        """Returns True if a read in the image with this top catalog is worth a call of `read`."""
        ...

    def read(self, image: Digest, path: bytes, read: ReadPlan, /) -> None:
        """Is called with a read of the file at `path` below the root of the image with this top catalog."""
        ...


def tell(watcher: ReadWatcher, entries: Entries, read: ReadPlan) -> None:
    """Calls `watcher.read` with a read in an image, if `watcher.waits_for` returns True for the image."""
    try:
        top = entries.slot(read.number)[0].top
    except OSError:  # given back
        return
    if not watcher.waits_for(top.ref.digest):
        return
    place = place_of(entries, read.number)
    if place is None or not place.top.in_folder:
        return  # a file of a folder above images
    name = entries.path_of(read.number).rpartition(b"/")[2]
    path = place.directory + b"/" + name if place.directory else name
    if watcher.waits_for(place.top.ref.digest):
        watcher.read(place.top.ref.digest, path, read)


def is_executable(entry: Entry) -> bool:
    """Returns True for a file that a start runs: executable, and no shared library or dynamic linker."""
    return bool(entry.mode & 0o111) and b".so" not in entry.name
