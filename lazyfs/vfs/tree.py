"""Answers for inode numbers and names: lookup, stat, readlink, directories, extended attributes.

Every call is synchronous and uses only objects that are on this machine; missing ones are raised as Need.
Errors for programs are OSErrors with the errno of POSIX. Not thread-safe: the filesystem's lock is held
around every call.
"""

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import LIVE, NAME_MAX, NESTED, Entry
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.errors import FormatError
from lazyfs.core.profile import hinted, without_hint
from lazyfs.vfs.attributes import Attributes, attributes
from lazyfs.vfs.catalogs import ParsedObjects
from lazyfs.vfs.entries import Entries
from lazyfs.vfs.inode_numbers import ROOT, SPREAD, pack
from lazyfs.vfs.missing_objects import NOTHING, Fetched, Need, NeedDecoding, NeedRepository
from lazyfs.vfs.shared_files import MIN_SIZE as SHARED_MIN
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.shown_numbers import Shown, as_it_is
from lazyfs.vfs.slots import Slot, SlotTable

OVERLAY = b"trusted.overlay."
USER_OVERLAY = b"user.overlay."


class Child(NamedTuple):
    """One line of a directory listing."""

    name: bytes
    attributes: Attributes


class Tree(Entries):
    """The files of one mount: one repository at its root, or a folder of many."""

    def __init__(
        self,
        slots: SlotTable,
        *,
        parsed: ParsedObjects | None = None,
        shared_files: SharedFiles | None = None,
        owner: tuple[int | None, int | None] = (None, None),
        shown: Shown = as_it_is,
    ) -> None:
        """`owner`: the user and group shown for every file; None shows those of the image. A runtime without
        privileges cannot use files of users that its namespace does not map. `shown`: the inode numbers that
        programs see."""
        super().__init__(
            slots,
            ParsedObjects() if parsed is None else parsed,
            SharedFiles() if shared_files is None else shared_files,
        )
        self._owner = None if owner == (None, None) else owner
        self.shown_number = shown
        self._as_it_is = shown is as_it_is

    def _shown(self, number: int, entry: Entry) -> Attributes:
        found = attributes(number, entry, number if self._as_it_is else self.shown_number(number))
        if self._owner is None:
            return found
        uid, gid = self._owner
        return found._replace(uid=found.uid if uid is None else uid, gid=found.gid if gid is None else gid)

    def directory(self, number: int, fetched: Fetched = NOTHING) -> tuple[Slot, Directory]:
        """Returns the directory with this number, and the slot of its children's numbers."""
        slot, index = self.slot(number)
        if self.shared_files.get(number) is not None:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        catalog = self.catalog(slot, fetched)
        if index == 0:
            return (self.slots.leaves(slot) if slot.live else slot), catalog.directory(0)
        entry = catalog.entry(index) if not index & SPREAD else None
        if entry is None or not entry.is_dir:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return slot, catalog.directory(entry.detail)

    def number(self, slot: Slot, directory: Directory, index: int, entry: Entry) -> int:
        """Returns the inode number of a directory's entry; allots the slot of a nested catalog."""
        if entry.flags & NESTED:
            return self._hang(slot, directory, index, entry).own
        if entry.link:
            if entry.link > 0:
                _check_first(self.catalog(slot), index, entry)
                return pack(slot.number, entry.link)
            return pack(slot.top.number, SPREAD | -entry.link)
        if entry.size >= SHARED_MIN and entry.nlink == 1 and entry.is_file and slot.top.in_folder:
            path = self.path(slot, directory, entry.name)[len(slot.top.path) :]
            if len(path) <= bounds.PATH:
                packs = self.catalog(slot).packs
                shared = self.shared_files.number(self.slots, slot.repository, path, entry, packs)
                if shared is not None:
                    return shared
        return pack(slot.number, index)

    def _hang(self, slot: Slot, directory: Directory, index: int, entry: Entry) -> Slot:
        """Returns the slot of a catalog nested in this directory."""
        ref = entry.nested
        assert ref is not None
        path = self.path(slot, directory, entry.name)
        if len(path) > bounds.PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if slot.leaves and self.catalog(slot).header.live:
            # A catalog in a folder hangs below the folder's own slot, in every revision.
            if entry.flags & LIVE:
                return self.slots.live(slot.repository, path, ref, slot.parent, 0)
            return self.slots.snapshot(slot.parent, slot.repository, path, ref, 0)
        return self.slots.snapshot(slot, slot.repository, path, ref, index)

    def lookup(self, parent: int, name: bytes, fetched: Fetched = NOTHING) -> Attributes | None:
        """Returns the attributes of a name in a directory; None if the name does not exist. Raises
        ENAMETOOLONG, ENOTDIR; NeedRepository for a name that a newer revision may have."""
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if self.site is not None and parent == ROOT:
            return self._site_lookup(name, fetched)
        slot, directory = self.directory(parent, fetched)
        index = directory.index(name)
        if index < 0:
            if slot.leaves and not self.repositories[slot.repository].is_newest:
                raise NeedRepository(slot.repository)  # published since that revision, perhaps
            return None
        entry = directory.entries[index - directory.first]
        if slot.leaves and entry.nested and not entry.flags & LIVE:
            self.repositories[slot.repository].on_enter(entry.nested, hinted(entry))
        return self._shown(self.number(slot, directory, index, entry), entry)

    def getattr(self, number: int, fetched: Fetched = NOTHING) -> Attributes:
        """Returns the attributes of a number the kernel knows."""
        return self._shown(number, self.entry(number, fetched))

    def readlink(self, number: int, fetched: Fetched = NOTHING) -> bytes:
        """Returns a symbolic link's target; raises EINVAL for anything else."""
        entry = self.entry(number, fetched)
        if not entry.is_link:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return entry.content

    def listing(self, number: int, start: int = 0, fetched: Fetched = NOTHING) -> Iterator[Child]:
        """Returns the entries of a directory from position `start` on, in the order of their names.

        Positions are stable for as long as the number shows the same catalog. Raises Need before the first
        entry is yielded, never later.
        """
        if self.site is not None and number == ROOT:
            return self._site_listing(start)
        slot, directory = self.directory(number, fetched)
        return self._children(slot, directory, start)

    def _children(self, slot: Slot, directory: Directory, start: int) -> Iterator[Child]:
        high, first = slot.number << 32, directory.first
        for position in range(start, len(directory.entries)):
            entry = directory.entries[position]
            if entry.flags & NESTED or entry.link or entry.size >= SHARED_MIN:
                number = self.number(slot, directory, first + position, entry)
            else:  # nearly every line: the call would take a twentieth of the line's time
                number = high | first + position
            yield Child(entry.name, self._shown(number, entry))

    def parent(self, number: int, fetched: Fetched = NOTHING) -> int:
        """Returns the number of the directory above a directory; for the root, the root's own number."""
        slot, index = self.slot(number)
        if index:
            catalog = self.catalog(slot, fetched)
            above = catalog.own_index(catalog.container(index))
            return pack(slot.number, above) if above else slot.own
        if slot.parent is None:
            return ROOT
        if slot.parent.live:
            return slot.parent.own
        catalog = self.catalog(slot.parent, fetched)
        above = catalog.own_index(catalog.container(slot.parent_index))
        return pack(slot.parent.number, above) if above else slot.parent.own

    def totals(self) -> list[Totals]:
        """Returns the numbers of entries, files and bytes of each open repository whose root catalog is in
        memory or at hand."""
        found = []
        for repository in self.repositories.values():
            try:
                found.append(self.catalog_of(repository.name, repository.root).header.totals)
            except Need:
                continue
        return found

    # a folder of repositories

    def _site_lookup(self, name: bytes, fetched: Fetched) -> Attributes | None:
        text = name.decode("utf-8", "surrogateescape")
        if self.site is None or text not in self.site:
            return None
        if text not in self.repositories:
            raise NeedRepository(text)
        repository = self.repositories[text]
        slot = self.slots.live(text, b"", repository.root, self.slots.root, 0)
        return self._shown(slot.own, self.top_entry(slot, fetched))

    def _site_listing(self, start: int) -> Iterator[Child]:
        """Lists the site's repositories that are open, and no others: listing the site's folder contacts no
        server."""
        for text in sorted(self.repositories)[start:]:
            found = self._site_lookup(text.encode("utf-8", "surrogateescape"), NOTHING)
            if found is not None:
                yield Child(text.encode("utf-8", "surrogateescape"), found)

    def announce(self, number: int, program: str) -> None:
        """Tells `on_enter` that a program is about to be started in the image whose root directory has this
        number. Does nothing for the number of any other file."""
        slot, index = self.slot(number)
        repository = self.repositories.get(slot.repository)
        try:
            entry = self.top_entry(slot, NOTHING) if not index else None
        except Need:
            return
        if repository is not None and entry is not None and entry.nested and not entry.flags & LIVE:
            repository.on_enter(entry.nested, hinted(entry), program)

    def xattrs(self, number: int, fetched: Fetched = NOTHING) -> dict[bytes, bytes]:
        """Returns the extended attributes that a file has in the image. Overlay marks appear under `user.`
        too: an overlay mounted without privileges reads only those."""
        entry = self.entry(number, fetched)
        if not entry.xattrs:
            return {}
        above = self.slot(number)[0].parent if entry.nested else None
        found = dict(without_hint(entry.xattrs) if above and above.live else entry.xattrs)
        for name, value in entry.xattrs:
            if name.startswith(OVERLAY):
                found.setdefault(USER_OVERLAY + name.removeprefix(OVERLAY), value)
        return found


def _check_first(catalog: Catalog, index: int, entry: Entry) -> None:
    """Raises FormatError unless a hardlink's number leads to the first name of the same file."""
    if entry.link == index:
        return
    try:
        first = catalog.entry(entry.link)
    except NeedDecoding:  # not in the middle of a listing: a wrong number hurts this repository only
        return
    if msgspec.structs.replace(first, name=entry.name) != entry:
        raise FormatError(f"{entry.name!r} is no hardlink of {first.name!r}, as its catalog says")
