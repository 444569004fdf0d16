"""The objects that a program reads next which goes through an image's tree, as tar, cp and grep -r do."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.pack import PackTable
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import NOTHING, Need, NeedDecoding, NeedRepository
from lazyfs.vfs.paths_in_images import place_of

PAUSE: Final = 1024
"""The largest number of entries that are passed in one go: the filesystem's lock is held."""
BATCH: Final = 64
"""The number of entries of a directory that are counted together."""
LOOK: Final = 64
"""The number of entries that a look into the cache counts as."""
SEEN: Final = 4096
"""The largest number of objects that are remembered, so that a pack comes once for all of its files."""


class Step(NamedTuple):
    """An object on the way."""

    ref: ObjectRef
    first: bool
    """True for the first object of a file, False for a further chunk."""


class _Place:
    """A place in a directory of a catalog."""

    def __init__(self, catalog: ObjectRef, directory: int, position: int = 0) -> None:
        self.catalog = catalog
        self.directory = directory
        self.position = position
        """Place of the next entry among those of the directory."""


def objects_after(
    entries: Entries,
    number: int,
    is_here: Callable[[ObjectRef], bool],
    decode: Callable[[NeedDecoding], None],
) -> Iterator[Step | None]:
    """Yields the objects of the files that come after a file in its image, in the order of a walk that reads
    directories by name and enters each one where it is named. Objects for which `is_here` returns True are
    left out. A missing catalog or chunk list is among the objects.

    Yields None for a pause: the walk goes on with a later call, once what is missing is at hand. `decode` is
    called with what is too large to be decoded under the lock, again and again until it is decoded. Each step
    is to be taken under the filesystem's lock.
    """
    try:
        repository, way = _way_to(entries, number)
    except (Need, NeedRepository, OSError, LazyfsError):
        return
    seen: set[Digest] = set()
    passed = 0
    while way:
        place, counted = way[-1], way[-1].position
        try:
            for step in _steps(entries, repository, way):
                if step is None:
                    passed += place.position - counted or 1  # a directory without entries takes time too
                    counted = place.position
                elif step.ref.digest not in seen:
                    if len(seen) == SEEN:
                        seen.clear()
                    seen.add(step.ref.digest)
                    passed += LOOK
                    if not is_here(step.ref):
                        passed = 0
                        yield step
                if passed > PAUSE:
                    passed = 0
                    yield None
        except NeedDecoding as need:
            decode(need)
            yield None
        except Need as need:
            for ref in need.refs:
                yield Step(ref, first=True)
            yield None
        except (NeedRepository, OSError, LazyfsError):
            return


def _way_to(entries: Entries, number: int) -> tuple[str, list[_Place]]:
    """Returns the repository of a file, and the places after the file and after the directories around it,
    the image's top directory first. No places if it is not known where the file is in an image."""
    found = place_of(entries, number)
    if found is None or not found.top.in_folder:
        return "", []
    repository, ref, inner = found.top.repository, found.top.ref, 0
    name = entries.path_of(number).rpartition(b"/")[2]
    way: list[_Place] = []
    for step in (*filter(None, found.directory.split(b"/")), name):
        directory = entries.catalog_of(repository, ref, NOTHING).directory(inner)
        position = directory.index(step) - directory.first
        if position < 0:
            return "", []
        way.append(_Place(ref, inner, position + 1))
        entry = directory.entries[position]
        ref, inner = (entry.nested, 0) if entry.nested else (ref, entry.detail)
    return repository, way


def _steps(entries: Entries, repository: str, way: list[_Place]) -> Iterator[Step | None]:
    """Yields the objects of the entries from the last place of a way on, up to the next directory, and sets
    the way to what comes then. Yields None after each BATCH entries, and at the end. After a Need it may be
    called again with the same way."""
    place = way[-1]
    packs, listed = _listed(entries, repository, place)
    last = 0
    while place.position < len(listed):  # an iterator would pass all entries before the place, each time
        entry = listed[place.position]
        if entry.is_dir:
            place.position += 1
            nested = entry.nested
            way.append(_Place(nested, 0) if nested else _Place(place.catalog, entry.detail))
            yield None
            return
        pack = entry.detail >> 32  # 0 for a file in no pack; most files lie in the pack of the one before
        if not pack or pack != last:
            yield from _objects(entries, repository, entry, packs)
            last = pack
        place.position += 1
        if not place.position % BATCH:
            yield None
    way.pop()
    yield None


def _listed(entries: Entries, repository: str, place: _Place) -> tuple[PackTable, list[Entry]]:
    catalog = entries.catalog_of(repository, place.catalog)  # not kept: it may be dropped from memory
    return catalog.packs, catalog.directory(place.directory).entries


def _objects(entries: Entries, repository: str, entry: Entry, packs: PackTable) -> Iterator[Step]:
    place = entry.place(packs)
    if place is not None:
        yield Step(place.ref, first=True)
        return
    chunks, listed = entry.chunks, entry.chunk_list
    if listed is not None:
        objects = entries.repositories[repository].objects
        chunks = entries.parsed.chunk_list(repository, listed, entry.size, entry.detail, objects, NOTHING)
    if chunks is None:
        return
    for index in range(len(chunks)):
        yield Step(chunks.chunk(index), first=not index)
