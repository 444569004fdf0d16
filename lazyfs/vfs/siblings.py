"""The directory around a file, in which prefetching looks for the files that a reader wants next."""

from typing import NamedTuple

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.pack import NO_PACKS, PackTable
from lazyfs.vfs.inode_numbers import SPREAD, unpack
from lazyfs.vfs.missing_objects import NOTHING, Fetched
from lazyfs.vfs.tree import Tree


class Siblings(NamedTuple):
    """A file's place among the entries of its directory."""

    directory: tuple[int, int]
    """Slot of the catalog, and number of the directory in it: names the directory on this mount."""
    entries: list[Entry]
    """The entries of the whole directory, sorted by name."""
    position: int
    """The file's place among them."""
    packs: PackTable = NO_PACKS
    """The packs that the entries may lie in."""
    parent: tuple[int, int] | None = None
    """The directory above, if the same catalog holds it; None for a catalog's own top."""


def siblings(tree: Tree, number: int, fetched: Fetched = NOTHING) -> Siblings | None:
    """Returns the directory around a file; None for a file in more than one directory: shared by images, or
    with names in several catalogs.

    Raises Need if the file's catalog is not at hand.
    """
    if tree.shared_files.get(number) is not None or unpack(number)[1] & SPREAD:
        return None
    slot, index = tree.slot(number)
    catalog = tree.catalog(slot, fetched)
    directory = catalog.directory(catalog.container(index))
    place = (slot.number, directory.number)
    above = (slot.number, directory.parent) if directory.number else None
    return Siblings(place, directory.entries, index - directory.first, catalog.packs, above)
