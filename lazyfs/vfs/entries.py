"""Finds the entry of an inode number: the number's slot, the catalog that the slot shows, the entry in it.

Every call is synchronous and uses only objects that are on this machine; missing ones are raised as Need.
Errors that a program sees are OSErrors with the errno of POSIX. Not thread-safe: the filesystem's lock is
held around every call.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import Protocol

from lazyfs.core.catalog.entry import DIRECTORY_SIZE, Entry
from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError
from lazyfs.core.pack import NO_PACKS, PackTable
from lazyfs.vfs.catalogs import ParsedObjects
from lazyfs.vfs.inode_numbers import ROOT, SPREAD, unpack
from lazyfs.vfs.journal_records import HeldNumbers, Lookups
from lazyfs.vfs.missing_objects import NOTHING, Fetched, LocalObjects, NeedRepository
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.slots import Slot, SlotTable

_SITE = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, DIRECTORY_SIZE, nlink=2)
"""The folder that holds a site's repositories."""


class OnEnter(Protocol):
    """A function that is called when a program enters an image, that is, looks up the image's root
    directory."""

    def __call__(self, image: ObjectRef, profile: ObjectRef | None, program: str = "", /) -> None:
        """`image`: the top catalog of the image. `profile`: the image's profile, if it has one. `program`:
        the program that is about to be started, if it is known."""


def _tell_nobody(_: ObjectRef, __: ObjectRef | None, ___: str = "") -> None:
    """Does nothing: the `on_enter` of a repository that needs no calls."""


class Repository:
    """One open repository: the source of its objects, and the revision it shows."""

    def __init__(
        self,
        name: str,
        objects: LocalObjects,
        root: ObjectRef,
        revision: int = 0,
        *,
        on_enter: OnEnter = _tell_nobody,
        facts: Callable[[], dict[str, str]] = dict,
        is_newest: bool = True,
    ) -> None:
        """`on_enter` is called when an image is looked up, with its top catalog, and its profile if it has
        one. `facts` returns the daemon's extended attributes of the repository, such as `user.host`.
        `is_newest`: False until the server has been asked for a newer revision. Until then, a name that is
        missing may exist in the newer revision."""
        self.name = name
        self.objects = objects
        self.root = root
        self.revision = revision
        self.on_enter = on_enter
        self.facts = facts
        self.is_newest = is_newest


class Entries:
    """The entries of one mount by their numbers. The mount is one repository, or a folder of several."""

    def __init__(self, slots: SlotTable, parsed: ParsedObjects, shared_files: SharedFiles) -> None:
        self.slots = slots
        self.parsed = parsed
        self.shared_files = shared_files
        self.repositories: dict[str, Repository] = {}
        self.site: tuple[str, ...] | None = None
        """Names of the repositories that appear when first looked up; None if the root is a repository."""

    def show_repository(self, repository: Repository) -> None:
        """Shows a repository as the mount's root, or as one of the site's folders."""
        self.repositories[repository.name] = repository
        parent = self.slots.root if self.site is not None else None
        self.slots.live(repository.name, b"", repository.root, parent, 0)

    def show_site(self, names: tuple[str, ...]) -> None:
        """Shows a folder of repositories as the root; each is opened when it is first looked up."""
        self.site = names
        self.slots.live("", b"", ObjectRef(Digest(bytes(32)), 0), None, 0)

    def restore(self, held: HeldNumbers) -> None:
        """Takes over the inode numbers that an earlier process has given out. Must be called before anything
        is shown."""
        lookups = held.lookups
        self.slots.restore(held.slots, None if lookups is None else lookups.slots)
        self.shared_files.restore(held.shared_files, None if lookups is None else lookups.shared_files)

    def lookups(self) -> Lookups:
        """Returns the lookups that the kernel has not given back."""
        return Lookups(self.slots.lookups(), self.shared_files.lookups())

    def hold(self, number: int, lookups: int = 1) -> None:
        """Notes that the kernel was told of a number `lookups` times. The number stays valid until `forget`
        was called for as many lookups."""
        if number != ROOT:
            self.slot(number)[0].count += lookups
            if self.shared_files.get(number) is not None:
                self.shared_files.hold(number, lookups)

    def forget(self, number: int, lookups: int) -> None:
        """Notes that the kernel has given back `lookups` lookups of a number."""
        if number != ROOT:
            self.shared_files.forget(number, lookups)
            self.slots.forget(number, lookups)

    def slot(self, number: int) -> tuple[Slot, int]:
        """Returns the slot and index of a number; raises ESTALE for one that no slot knows."""
        at, index = unpack(number)
        slot = self.slots.root if number == ROOT else self.slots.get(at)
        if slot is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return slot, 0 if number == ROOT else index

    def catalog(self, slot: Slot, fetched: Fetched = NOTHING) -> Catalog:
        """Returns the catalog that a slot stands for now. Raises ESTALE for the slot of shared files, which
        has none: the number is that of a file that is unknown."""
        if not slot.ref.size:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self.catalog_of(slot.repository, slot.ref, fetched)

    def catalog_of(self, repository: str, ref: ObjectRef, fetched: Fetched = NOTHING) -> Catalog:
        """Returns the catalog `ref` of a repository. Raises NeedRepository if the repository is not open."""
        opened = self.repositories.get(repository)
        if opened is None:
            raise NeedRepository(repository)
        return self.parsed.catalog(repository, ref, opened.objects, fetched)

    def entry(self, number: int, fetched: Fetched = NOTHING) -> Entry:
        """Returns the entry with this number."""
        return self.entry_and_packs(number, fetched)[0]

    def entry_and_packs(self, number: int, fetched: Fetched = NOTHING) -> tuple[Entry, PackTable]:
        """Returns the entry with this number, and the table of packs to which the entry's pack number
        refers."""
        shared = self.shared_files.get(number)
        if shared is not None:
            return shared, self.shared_files.packs(number)
        slot, index = self.slot(number)
        if index == 0:
            return self.top_entry(slot, fetched), NO_PACKS
        if index & SPREAD:
            return self._spread_entry(slot, index & ~SPREAD, fetched)
        catalog = self.catalog(slot, fetched)
        return catalog.entry(index), catalog.packs

    def top_entry(self, slot: Slot, fetched: Fetched) -> Entry:
        """Returns the entry of the directory at which a slot's catalog begins. The entry comes from the
        catalog above, because that one has the times of the present revision. If the catalog above has no
        such entry, returns the root entry of the slot's own catalog, whose times may be older."""
        parent = slot.parent
        if self.site is not None and slot is self.slots.root:
            return _SITE
        if parent is None or (self.site is not None and parent is self.slots.root):
            return self.catalog(slot, fetched).root
        if not parent.live:
            return self.catalog(parent, fetched).entry(slot.parent_index)
        above = self.catalog(parent, fetched).directory(0).find(slot.path.rpartition(b"/")[2])
        if above is None or above.nested != slot.ref:
            return self.catalog(slot, fetched).root
        return above

    def _spread_entry(self, slot: Slot, group: int, fetched: Fetched) -> tuple[Entry, PackTable]:
        """Returns the entry of a hardlink group that spans catalogs, found by the first of the group's
        names."""
        path = self.catalog(slot, fetched).shared_path(group)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        found, packs = self._walk(slot, path, fetched)
        if found.link != -group:
            raise FormatError(f"hardlink group {group} leads to {path!r}, which is not in it")
        return found, packs

    def _walk(self, slot: Slot, path: bytes, fetched: Fetched) -> tuple[Entry, PackTable]:
        """Returns the entry at a path below a slot's root, and the packs of the entry's catalog. Allots no
        slots."""
        catalog = self.catalog(slot, fetched)
        directory, entry = catalog.directory(0), catalog.root
        for name in path.split(b"/"):
            if entry.nested:
                catalog = self.catalog_of(slot.repository, entry.nested, fetched)
                directory = catalog.directory(0)
            elif entry is not catalog.root:
                directory = catalog.directory(entry.detail)
            found = directory.find(name)
            if found is None or (entry is not catalog.root and not entry.is_dir):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            entry = found
        return entry, catalog.packs

    def path(self, slot: Slot, directory: Directory, name: bytes = b"") -> bytes:
        """Returns the path of a directory, or of a name in it, below the repository's root."""
        inner = b""
        if directory.number:
            catalog = self.catalog(slot)
            inner = catalog.path(catalog.own_index(directory.number))
        return b"/".join(part for part in (slot.path, inner, name) if part)

    def path_of(self, number: int, fetched: Fetched = NOTHING) -> bytes:
        """Returns a path of the number: below its repository's root, or, for a file that several images
        share, below each image."""
        if self.shared_files.get(number) is not None:
            return self.shared_files.path(number)
        slot, index = self.slot(number)
        if index & SPREAD:
            inner = self.catalog(slot, fetched).shared_path(index & ~SPREAD) or b""
        else:
            inner = self.catalog(slot, fetched).path(index) if index else b""
        return b"/".join(part for part in (slot.path, inner) if part)
