"""The directory around a file, in which prefetching looks for the files that a reader wants next."""

from collections.abc import Iterable

import msgspec

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.pack import NO_PACKS, PackTable
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.inode_numbers import SPREAD, unpack
from lazyfs.vfs.missing_objects import NOTHING, Fetched


class Siblings(msgspec.Struct, frozen=True):
    """A file's place among the entries of its directory."""

    directory: tuple[int, int]
    """Slot of the catalog, and number of the directory in the catalog: together they name the directory on
    this mount."""
    entries: list[Entry]
    """The entries of the whole directory, sorted by name."""
    position: int
    """The file's place among the entries."""
    packs: PackTable = NO_PACKS
    """The table of packs to which the entries' pack numbers refer."""
    parent: tuple[int, int] | None = None
    """The directory above, if the same catalog holds it; None for a catalog's own top."""
    catalog: Catalog | None = None
    """The catalog that holds the directory; None if `directory` does not name the directory by its number in
    a catalog."""


def siblings(entries: Entries, number: int, fetched: Fetched = NOTHING) -> Siblings | None:
    """Returns the directory around a file; None for a file in more than one directory: shared by images, or
    with names in several catalogs.

    Raises Need if the file's catalog is not at hand.
    """
    if entries.shared_files.get(number) is not None or unpack(number)[1] & SPREAD:
        return None
    slot, index = entries.slot(number)
    catalog = entries.catalog(slot, fetched)
    directory = catalog.directory(catalog.container(index))
    place = (slot.number, directory.number)
    above = (slot.number, directory.parent) if directory.number else None
    return Siblings(place, directory.entries, index - directory.first, catalog.packs, above, catalog)


def later_namesakes(file: Siblings, directories: int, packs: int) -> list[ObjectRef]:
    """Returns packs, at most `packs` of them, that hold files of the same name as `file`. Looks into the next
    `directories` directories after the file's own, under the same parent."""
    catalog = file.catalog
    if catalog is None or file.parent is None:
        return []
    name, own = file.entries[file.position].name, file.directory[1]
    found: dict[ObjectRef, None] = {}
    beside = catalog.directory(file.parent[1]).entries
    numbers = [entry.detail for entry in beside if entry.is_dir and not entry.nested]
    for number in numbers[numbers.index(own) + 1 :][:directories]:
        entry = catalog.directory(number).find(name)
        if entry is not None and entry.pack_number >= 0:
            found[file.packs[entry.pack_number]] = None
            if len(found) == packs:
                break
    return list(found)


def packs_of(catalog: Catalog, directories: Iterable[int]) -> list[ObjectRef]:
    """Returns the packs in which files of these directories of a catalog lie, each once."""
    found = {
        entry.pack_number: None
        for number in directories
        for entry in catalog.directory(number).entries
        if entry.pack_number >= 0
    }
    return [catalog.packs[number] for number in found]
