"""From one revision to the next on a live mount: what changes, and only that.

Live folders show the new catalog under their old number. A name in one of them that has changed, come or
gone is to be forgotten by the kernel, and so is the folder's listing. What hangs below an unchanged name
keeps numbers, names and pages; what lies in a snapshot that was opened before keeps its content.
"""

from typing import NamedTuple

import msgspec

from lazyfs.core.catalog.entry import LIVE, NESTED, Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef
from lazyfs.core.profile import without_hint
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import NOTHING, Brought
from lazyfs.vfs.slots import Slot
from lazyfs.vfs.tree import Tree


class Change(NamedTuple):
    """Something the kernel must drop."""

    number: int
    """A folder's inode number."""
    name: bytes | None
    """A name in it; None for its attributes and listing."""


def switch(
    tree: Tree, repository: str, root: ObjectRef, revision: int, brought: Brought = NOTHING
) -> list[Change]:
    """Shows another revision from now on. Raises Need before anything has changed."""
    opened = tree.repositories[repository]
    changes: list[Change] = []
    shown: list[tuple[Slot, ObjectRef]] = []
    top = tree.slots.find_live(repository, b"")
    work = [] if top is None else [(top, root)]
    while work:
        slot, ref = work.pop()
        if slot.ref == ref:
            continue
        old = tree.parsed.catalog(repository, slot.ref, opened.objects, brought)
        new = tree.parsed.catalog(repository, ref, opened.objects, brought)
        for name, before, after in _differences(old, new):
            stays = _live(old, before) and _live(new, after)
            if after is not None and after.nested and _live(new, after):
                below = tree.slots.find_live(repository, slot.path + b"/" + name if slot.path else name)
                if below is not None:  # also one that had gone, if somebody is still in it
                    work.append((below, after.nested))
                    changes.append(Change(below.own, None))
            if not stays:
                changes.append(Change(slot.own, name))
        changes.append(Change(slot.own, None))
        shown.append((slot, ref))
    if shown and tree.site is not None:
        changes.append(Change(ROOT, None))  # its names are kept with the attributes of the repositories
    for slot, ref in shown:
        tree.slots.show(slot, ref)
    opened.root, opened.revision = root, revision
    tree.slots.sweep()
    tree.copies.sweep()
    return changes


def _live(catalog: Catalog, entry: Entry | None) -> bool:
    return entry is not None and catalog.header.live and entry.flags & (LIVE | NESTED) == LIVE | NESTED


def _differences(old: Catalog, new: Catalog) -> list[tuple[bytes, Entry | None, Entry | None]]:
    """(name, entry before, entry after) of what is not the same in the two top directories."""
    before = {entry.name: entry for entry in old.directory(0).entries}
    found: list[tuple[bytes, Entry | None, Entry | None]] = []
    for entry in new.directory(0).entries:
        was = before.pop(entry.name, None)
        if was is None or _seen(was) != _seen(entry) or not (new.header.live and old.header.live):
            found.append((entry.name, was, entry))
    found += [(name, was, None) for name, was in before.items()]
    return found


def _seen(entry: Entry) -> Entry:
    """Without what no program sees: who is inside of an image does not notice that it gets a profile."""
    if not entry.nested or not entry.xattrs:
        return entry
    return msgspec.structs.replace(entry, xattrs=without_hint(entry.xattrs))
