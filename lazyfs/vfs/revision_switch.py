"""Moves a live mount from one revision to the next: the kernel drops the changed names, and only those.

Live folders show the new catalog under their old number. The kernel must forget each name in a live folder
that was changed, added or removed, and the folder's listing. Everything below an unchanged name keeps its
numbers, names and pages; everything in a snapshot that was opened before keeps its content.
"""

from typing import NamedTuple

import msgspec

from lazyfs.core.catalog.entry import LIVE, NESTED, Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.profile import without_hint
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import NOTHING, Fetched, Need, NeedDecoding
from lazyfs.vfs.slots import Slot
from lazyfs.vfs.tree import Tree


class Invalidation(NamedTuple):
    """A name in a folder, or the folder's listing, that the kernel must drop."""

    number: int
    """The folder's inode number."""
    name: bytes | None
    """The name in the folder to drop; None to drop the folder's attributes and listing."""


def switch(
    tree: Tree, repository: str, root: ObjectRef, revision: int, fetched: Fetched = NOTHING
) -> list[Invalidation]:
    """Switches a repository to another revision, whose root catalog is `root`; returns the listings and names
    that the kernel must drop. Raises Need before anything has changed, for all catalogs of which it knows by
    then that they are missing."""
    opened = tree.repositories[repository]
    missing: dict[ObjectRef, None] = {}
    invalidations: list[Invalidation] = []
    shown: list[tuple[Slot, ObjectRef]] = []
    top = tree.slots.find_live(repository, b"")
    work = [] if top is None else [(top, root)]
    while work:
        slot, ref = work.pop()
        if slot.ref == ref:
            continue
        old, new = (_catalog(tree, opened, one, fetched, missing) for one in (slot.ref, ref))
        if old is None or new is None:
            continue
        for name, before, after in _differences(old, new):
            stays = _live(old, before) and _live(new, after)
            if after is not None and after.nested and _live(new, after):
                below = tree.slots.find_live(repository, slot.path + b"/" + name if slot.path else name)
                if below is not None:  # also a removed folder, if a program still uses it
                    work.append((below, after.nested))
                    invalidations.append(Invalidation(below.own, None))
            if not stays:
                invalidations.append(Invalidation(slot.own, name))
        invalidations.append(Invalidation(slot.own, None))
        shown.append((slot, ref))
    if missing:
        raise Need(repository, tuple(missing))
    if shown and tree.site is not None:
        # The site's folder: the kernel keeps its names with the attributes of the repositories.
        invalidations.append(Invalidation(ROOT, None))
    for slot, ref in shown:
        tree.slots.show(slot, ref)
    opened.root, opened.revision = root, revision
    tree.shared_files.sweep(tree.slots, repository)
    tree.slots.sweep(repository)
    return invalidations


def _catalog(
    tree: Tree, opened: Repository, ref: ObjectRef, fetched: Fetched, missing: dict[ObjectRef, None]
) -> Catalog | None:
    """Returns a catalog; None, and a note in `missing`, if it is not here."""
    try:
        return tree.parsed.catalog(opened.name, ref, opened.objects, fetched)
    except NeedDecoding:
        raise
    except Need:
        missing[ref] = None
        return None


def _live(catalog: Catalog, entry: Entry | None) -> bool:
    return entry is not None and catalog.header.live and entry.flags & (LIVE | NESTED) == LIVE | NESTED


def _differences(old: Catalog, new: Catalog) -> list[tuple[bytes, Entry | None, Entry | None]]:
    """Returns (name, entry before, entry after) of each name whose entry differs in the top directories of
    the two catalogs."""
    before = {entry.name: entry for entry in old.directory(0).entries}
    found: list[tuple[bytes, Entry | None, Entry | None]] = []
    for entry in new.directory(0).entries:
        was = before.pop(entry.name, None)
        if was is None or _seen(was) != _seen(entry) or not (new.header.live and old.header.live):
            found.append((entry.name, was, entry))
    found += [(name, was, None) for name, was in before.items()]
    return found


def _seen(entry: Entry) -> Entry:
    """Returns the entry as programs see it, without its profile: an image in use does not change because it
    gets a profile."""
    if not entry.nested or not entry.xattrs:
        return entry
    return msgspec.structs.replace(entry, xattrs=without_hint(entry.xattrs))
