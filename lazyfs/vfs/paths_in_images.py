"""Finds files of an image by their paths, as a program inside it would. Uses only objects that are on this
machine."""

from typing import Final, NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.pack import PackTable
from lazyfs.core.profile import hinted
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.missing_objects import NOTHING, Fetched, Need, NeedRepository
from lazyfs.vfs.siblings import Siblings
from lazyfs.vfs.slots import Slot

LINKS: Final = 40
"""The largest number of links that are followed on one path, as in Linux."""
STEPS: Final = 256
"""The largest number of names on one path, including names in the links that are followed."""

IMAGES: Final = 8
"""The largest number of images in which a shared file is looked for."""


class FileInImage(NamedTuple):
    """A regular file of an image."""

    entry: Entry
    packs: PackTable
    """The table of packs to which the pack number of `entry` refers, if the file lies in a pack."""
    directory: bytes
    """The directory in which the file was found, below the image's root."""


class PlaceInImage(NamedTuple):
    """The place of a file that the kernel knows by its number."""

    top: Slot
    """The image's slot."""
    packs: PackTable
    directory: bytes
    """The directory around the file, below the image's root."""


def place_of(entries: Entries, number: int) -> PlaceInImage | None:
    """Returns the place of a file. Returns None if its catalog is not in the cache, or if the kernel has
    given the number back.

    A file that several images share has one number for all of them. Its place is then in one of these images,
    the one that was entered last.
    """
    try:
        if entries.shared_files.get(number) is not None:
            return _place_of_shared(entries, number)
        top = entries.slot(number)[0].top
        _, packs = entries.entry_and_packs(number)
        path = entries.path_of(number)[len(top.path) :]
    except (Need, NeedRepository, OSError, LazyfsError):
        return None
    return PlaceInImage(top, packs, path.strip(b"/").rpartition(b"/")[0])


def profile_of(entries: Entries, number: int) -> ObjectRef | None:
    """Returns the profile of the image that a file belongs to; None if the image has none, or if the image's
    entry is not in the cache. Serves a process that took over a mount: that process was not told when images
    were entered."""
    try:
        if entries.shared_files.get(number) is not None:
            place = _place_of_shared(entries, number)
            return hinted(entries.top_entry(place.top, NOTHING)) if place else None
        return hinted(entries.top_entry(entries.slot(number)[0].top, NOTHING))
    except (Need, NeedRepository, OSError, LazyfsError):
        return None


def _place_of_shared(entries: Entries, number: int) -> PlaceInImage | None:
    entry, packs = entries.entry_and_packs(number)
    path = entries.path_of(number).strip(b"/")
    repository = entries.slot(number)[0].repository
    images = [slot for slot in entries.slots if slot.in_folder and slot.ref.size]
    tried = 0
    for top in reversed(images):
        if top.repository != repository:
            continue
        tried += 1
        if tried > IMAGES:
            return None
        try:
            found = find_file(entries, top, path)
        except (Need, NeedRepository, LazyfsError):
            continue
        if found is not None and found.entry.content == entry.content:
            return PlaceInImage(top, packs, path.rpartition(b"/")[0])
    return None


class _End(NamedTuple):
    """The end of a path: an entry, and the catalog that has it."""

    entry: Entry
    catalog: Catalog


def find_file(entries: Entries, top: Slot, path: bytes) -> FileInImage | None:
    """Returns the file at a path below the image whose top catalog is that of `top`; None if there is none.

    Links are followed inside the image, `..` as far as its root. Raises Need, NeedRepository; allots no slot.
    """
    end = _follow(entries, top, path, NOTHING)
    if end is None or not end.entry.is_file:
        return None
    return FileInImage(end.entry, end.catalog.packs, path.rpartition(b"/")[0])


def _follow(entries: Entries, top: Slot, path: bytes, fetched: Fetched) -> _End | None:
    """Follows a path from the top directory of a slot's catalog; returns its end, None if it leads nowhere.
    Raises as `find_file`."""
    catalog = entries.catalog(top, fetched)
    way: list[tuple[_End, Directory]] = [(_End(catalog.root, catalog), catalog.directory(0))]
    names = path.split(b"/")[::-1]
    links = 0
    for _ in range(STEPS):
        if not names:
            return way[-1][0]
        name = names.pop()
        if name == b".." and len(way) > 1:
            way.pop()
        if name in (b"", b".", b".."):
            continue
        end, directory = way[-1]
        entry = directory.find(name)
        if entry is None:
            return None
        if entry.is_link:
            links += 1
            if links > LINKS:
                return None
            if entry.content.startswith(b"/"):
                del way[1:]
            names += entry.content.split(b"/")[::-1]
        elif entry.is_dir:
            catalog, below = _below(entries, top.repository, end.catalog, entry, fetched)
            way.append((_End(entry, catalog), below))
        else:
            return None if names else _End(entry, end.catalog)
    return None


def entry_at_path(entries: Entries, repository: str, path: bytes, fetched: Fetched = NOTHING) -> Entry | None:
    """Follows a path of a repository, links included, and returns the entry it leads to; None if it leads
    nowhere. For the root directory of an image, the entry's nested catalog is the image's top catalog. Raises
    Need, NeedRepository."""
    root = entries.slots.find_live(repository, b"")
    if root is None:
        raise NeedRepository(repository)
    end = _follow(entries, root, path, fetched)
    return end.entry if end is not None else None


def siblings_at(entries: Entries, place: PlaceInImage, name: bytes) -> Siblings | None:
    """Returns the file `name` of the directory at `place`, among its siblings; None if the directory has no
    such file. Works for a file that several images share, too. Raises as `find_file`."""
    found = _directory(entries, place.top, place.directory)
    if found is None:
        return None
    catalog, directory = found
    at = directory.index(name) - directory.first
    key = (place.top.number, hash(place.directory))
    return Siblings(key, directory.entries, at, catalog.packs) if at >= 0 else None


def list_directory(entries: Entries, top: Slot, path: bytes) -> list[bytes]:
    """Returns the names in a directory of an image, sorted; empty if there is none. Follows no link.

    Raises as `find_file`.
    """
    found = _directory(entries, top, path)
    return [entry.name for entry in found[1].entries] if found else []


def _directory(entries: Entries, top: Slot, path: bytes) -> tuple[Catalog, Directory] | None:
    catalog = entries.catalog(top, NOTHING)
    directory = catalog.directory(0)
    for name in filter(None, path.split(b"/")):
        entry = directory.find(name)
        if entry is None or not entry.is_dir:
            return None
        catalog, directory = _below(entries, top.repository, catalog, entry, NOTHING)
    return catalog, directory


def _below(
    entries: Entries, repository: str, catalog: Catalog, entry: Entry, fetched: Fetched
) -> tuple[Catalog, Directory]:
    if entry.nested:
        catalog = entries.catalog_of(repository, entry.nested, fetched)
        return catalog, catalog.directory(0)
    return catalog, catalog.directory(entry.detail)
