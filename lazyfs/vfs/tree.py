"""From inode numbers to answers: lookup, stat, readlink, directories, extended attributes.

Every call is synchronous and takes what is at hand; what is missing is raised as Need. Errors that a program
sees are OSErrors with the errno POSIX says. Not thread-safe: the session holds its lock around every call.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import DIRECTORY_SIZE, LIVE, NAME_MAX, NESTED, Entry
from lazyfs.core.catalog.layout import Totals
from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.profile import hinted, without_hint
from lazyfs.vfs.attributes import Attributes, attributes
from lazyfs.vfs.catalogs import Parsed
from lazyfs.vfs.inode_numbers import ROOT, SPREAD, pack, unpack
from lazyfs.vfs.missing_objects import NOTHING, Brought, LocalObjects, Need, NeedRepository
from lazyfs.vfs.shared_files import MIN_SIZE as COPY_MIN
from lazyfs.vfs.shared_files import Copies
from lazyfs.vfs.slots import Slot, SlotTable

OVERLAY = b"trusted.overlay."
USER_OVERLAY = b"user.overlay."

_SITE = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, DIRECTORY_SIZE, nlink=2)
"""The folder that holds a site's repositories."""


class Repository:
    """One open repository: where its objects come from and which revision is shown."""

    def __init__(self, name: str, objects: LocalObjects, root: ObjectRef, revision: int = 0) -> None:
        self.name = name
        self.objects = objects
        self.root = root
        self.revision = revision


class Child(NamedTuple):
    """One line of a directory listing."""

    name: bytes
    attributes: Attributes


class Tree:
    """The files of one mount: one repository at its root, or a folder of many."""

    def __init__(
        self, slots: SlotTable, *, parsed: Parsed | None = None, copies: Copies | None = None
    ) -> None:
        self.slots = slots
        self.parsed = Parsed() if parsed is None else parsed
        self.copies = Copies() if copies is None else copies
        self.repositories: dict[str, Repository] = {}
        self.site: tuple[str, ...] | None = None
        """Names of the repositories that appear when first looked up; None if the root is a repository."""
        self.owner: tuple[int | None, int | None] = (None, None)
        """The user and group that every file is shown as, None for those the image says. A runtime without
        privileges cannot use files of users its namespace does not map."""
        self.profiled: Callable[[str, ObjectRef], None] = lambda *_: None
        """Told of a repository and of the profile of an image in it that is being looked up."""
        self.facts: Callable[[str], dict[str, str]] = lambda _: {}
        """What the daemon knows of a repository: `user.host`, `user.proxy`."""

    def show_repository(self, repository: Repository) -> None:
        """The repository is the mount's root, or one of the site's folders."""
        self.repositories[repository.name] = repository
        parent = self.slots.root if self.site is not None else None
        self.slots.live(repository.name, b"", repository.root, parent, 0)

    def show_site(self, names: tuple[str, ...]) -> None:
        """The root is a folder of repositories, opened when they are first looked up."""
        self.site = names
        self.slots.live("", b"", ObjectRef(Digest(bytes(32)), 0), None, 0)

    def hold(self, number: int, lookups: int = 1) -> None:
        """The kernel was told of a number: it stays valid until `forget` has given all lookups back."""
        if number != ROOT:
            self.slot(number)[0].count += lookups
            if self.copies.get(number) is not None:
                self.copies.hold(number, lookups)

    def forget(self, number: int, lookups: int) -> None:
        """The kernel gives lookups back."""
        if number != ROOT:
            self.copies.forget(number, lookups)
            self.slots.forget(number, lookups)

    def _shown(self, number: int, entry: Entry) -> Attributes:
        found = attributes(number, entry)
        if self.owner == (None, None):
            return found
        uid, gid = self.owner
        return found._replace(uid=found.uid if uid is None else uid, gid=found.gid if gid is None else gid)

    # numbers -> entries

    def slot(self, number: int) -> tuple[Slot, int]:
        """The slot and index of a number; raises ESTALE for one that no slot knows."""
        at, index = unpack(number)
        slot = self.slots.root if number == ROOT else self.slots.get(at)
        if slot is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return slot, 0 if number == ROOT else index

    def catalog(self, slot: Slot, brought: Brought = NOTHING) -> Catalog:
        """The catalog a slot stands for now."""
        return self._catalog(slot.repository, slot.ref, brought)

    def _catalog(self, repository: str, ref: ObjectRef, brought: Brought) -> Catalog:
        opened = self.repositories.get(repository)
        if opened is None:
            raise NeedRepository(repository)
        return self.parsed.catalog(repository, ref, opened.objects, brought)

    def entry(self, number: int, brought: Brought = NOTHING) -> Entry:
        """The entry with this number."""
        copy = self.copies.get(number)
        if copy is not None:
            return copy
        slot, index = self.slot(number)
        if index == 0:
            return self._top_entry(slot, brought)
        if index & SPREAD:
            return self._spread_entry(slot, index & ~SPREAD, brought)
        return self.catalog(slot, brought).entry(index)

    def _top_entry(self, slot: Slot, brought: Brought) -> Entry:
        """The directory a slot's catalog hangs at, as the catalog above says (a folder's says the revision's
        times, where a live catalog may be older)."""
        parent = slot.parent
        if self.site is not None and slot is self.slots.root:
            return _SITE
        if parent is None or (self.site is not None and parent is self.slots.root):
            return self.catalog(slot, brought).root
        if not parent.live:
            return self.catalog(parent, brought).entry(slot.parent_index)
        above = self.catalog(parent, brought).directory(0).find(slot.path.rpartition(b"/")[2])
        if above is None or above.nested != slot.ref:
            return self.catalog(slot, brought).root
        return above

    def _spread_entry(self, slot: Slot, group: int, brought: Brought) -> Entry:
        """An entry of a hardlink group that spans catalogs, by the first of its names."""
        for number, path in self.catalog(slot, brought).header.shared:
            if number == group:
                return self._walk(slot, path, brought)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _walk(self, slot: Slot, path: bytes, brought: Brought) -> Entry:
        """The entry at a path below a slot's root, without allotting slots."""
        catalog = self.catalog(slot, brought)
        directory, entry = catalog.directory(0), catalog.root
        for name in path.split(b"/"):
            if entry.nested:
                catalog = self._catalog(slot.repository, entry.nested, brought)
                directory = catalog.directory(0)
            elif entry is not catalog.root:
                directory = catalog.directory(entry.detail)
            found = directory.find(name)
            if found is None or (entry is not catalog.root and not entry.is_dir):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            entry = found
        return entry

    # directories

    def directory(self, number: int, brought: Brought = NOTHING) -> tuple[Slot, Directory]:
        """The directory with this number and the slot its children's numbers are in."""
        slot, index = self.slot(number)
        if self.copies.get(number) is not None:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        catalog = self.catalog(slot, brought)
        if index == 0:
            return (self.slots.leaves(slot) if slot.live else slot), catalog.directory(0)
        entry = catalog.entry(index) if not index & SPREAD else None
        if entry is None or not entry.is_dir:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return slot, catalog.directory(entry.detail)

    def number(self, slot: Slot, directory: Directory, index: int, entry: Entry) -> int:
        """The inode number of a directory's entry; allots the slot of a nested catalog."""
        if entry.flags & NESTED:
            return self._hang(slot, directory, index, entry).own
        if entry.link:
            if entry.link > 0:
                return pack(slot.number, entry.link)
            return pack(slot.top.number, SPREAD | -entry.link)
        if entry.size >= COPY_MIN and entry.nlink == 1 and entry.is_file and slot.top.in_folder:
            path = self.path(slot, directory, entry.name)[len(slot.top.path) :]
            return self.copies.number(self.slots, slot.repository, path, entry)
        return pack(slot.number, index)

    def _hang(self, slot: Slot, directory: Directory, index: int, entry: Entry) -> Slot:
        """The slot of a catalog nested in this directory."""
        ref = entry.nested
        assert ref is not None
        path = self.path(slot, directory, entry.name)
        if slot.leaves and self.catalog(slot).header.live:
            # What hangs in a folder hangs below the folder's own slot, whatever revision it was found in.
            if entry.flags & LIVE:
                return self.slots.live(slot.repository, path, ref, slot.parent, 0)
            return self.slots.snapshot(slot.parent, slot.repository, path, ref, 0)
        return self.slots.snapshot(slot, slot.repository, path, ref, index)

    def path(self, slot: Slot, directory: Directory, name: bytes = b"") -> bytes:
        """The path below the repository's root of a directory, or of a name in it."""
        inner = b""
        if directory.number:
            catalog = self.catalog(slot)
            inner = catalog.path(catalog.own_index(directory.number))
        return b"/".join(part for part in (slot.path, inner, name) if part)

    def lookup(self, parent: int, name: bytes, brought: Brought = NOTHING) -> Attributes | None:
        """The attributes of a name in a directory; None if there is none. Raises ENAMETOOLONG, ENOTDIR."""
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if self.site is not None and parent == ROOT:
            return self._site_lookup(name, brought)
        slot, directory = self.directory(parent, brought)
        index = directory.index(name)
        if index < 0:
            return None
        entry = directory.entries[index - directory.first]
        if slot.leaves and entry.xattrs:
            profile = hinted(entry)
            if profile is not None:
                self.profiled(slot.repository, profile)
        return self._shown(self.number(slot, directory, index, entry), entry)

    def getattr(self, number: int, brought: Brought = NOTHING) -> Attributes:
        """The attributes of a number the kernel knows."""
        return self._shown(number, self.entry(number, brought))

    def readlink(self, number: int, brought: Brought = NOTHING) -> bytes:
        """A symbolic link's target; raises EINVAL for anything else."""
        entry = self.entry(number, brought)
        if not entry.is_link:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return entry.content

    def listing(self, number: int, start: int = 0, brought: Brought = NOTHING) -> Iterator[Child]:
        """The entries of a directory from position `start` on, in the order of their names.

        Positions are stable for as long as the number shows the same catalog. What is missing is raised
        before the first entry is given.
        """
        if self.site is not None and number == ROOT:
            return self._site_listing(start)
        slot, directory = self.directory(number, brought)
        return self._children(slot, directory, start)

    def _children(self, slot: Slot, directory: Directory, start: int) -> Iterator[Child]:
        for position in range(start, len(directory.entries)):
            entry = directory.entries[position]
            number = self.number(slot, directory, directory.first + position, entry)
            yield Child(entry.name, self._shown(number, entry))

    def parent(self, number: int, brought: Brought = NOTHING) -> int:
        """The number of the directory above a directory; the root's is its own."""
        slot, index = self.slot(number)
        if index:
            catalog = self.catalog(slot, brought)
            above = catalog.own_index(catalog.container(index))
            return pack(slot.number, above) if above else slot.own
        if slot.parent is None:
            return ROOT
        if slot.parent.live:
            return slot.parent.own
        catalog = self.catalog(slot.parent, brought)
        above = catalog.own_index(catalog.container(slot.parent_index))
        return pack(slot.parent.number, above) if above else slot.parent.own

    def path_of(self, number: int, brought: Brought = NOTHING) -> bytes:
        """A path of the number: below its repository's root, or of a file shared by several images below
        each of them."""
        if self.copies.get(number) is not None:
            return self.copies.path(number)
        slot, index = self.slot(number)
        if index & SPREAD:
            shared = dict(self.catalog(slot, brought).header.shared)
            inner = shared.get(index & ~SPREAD, b"")
        else:
            inner = self.catalog(slot, brought).path(index) if index else b""
        return b"/".join(part for part in (slot.path, inner) if part)

    def totals(self) -> list[Totals]:
        """What each open repository holds, as far as its root catalog is in memory or at hand."""
        found = []
        for repository in self.repositories.values():
            try:
                found.append(self._catalog(repository.name, repository.root, NOTHING).header.totals)
            except Need:
                continue
        return found

    # a folder of repositories

    def _site_lookup(self, name: bytes, brought: Brought) -> Attributes | None:
        text = name.decode("utf-8", "surrogateescape")
        if self.site is None or text not in self.site:
            return None
        if text not in self.repositories:
            raise NeedRepository(text)
        repository = self.repositories[text]
        slot = self.slots.live(text, b"", repository.root, self.slots.root, 0)
        return self._shown(slot.own, self._top_entry(slot, brought))

    def _site_listing(self, start: int) -> Iterator[Child]:
        """Only repositories that are open: listing the folder contacts nobody."""
        for text in sorted(self.repositories)[start:]:
            found = self._site_lookup(text.encode("utf-8", "surrogateescape"), NOTHING)
            if found is not None:
                yield Child(text.encode("utf-8", "surrogateescape"), found)

    # extended attributes

    def xattrs(self, number: int, brought: Brought = NOTHING) -> dict[bytes, bytes]:
        """The extended attributes the image gives a file. Overlay marks appear under `user.` too: an overlay
        mounted without privileges reads only those."""
        entry = self.entry(number, brought)
        if not entry.xattrs:
            return {}
        above = self.slot(number)[0].parent if entry.nested else None
        found = dict(without_hint(entry.xattrs) if above and above.live else entry.xattrs)
        for name, value in entry.xattrs:
            if name.startswith(OVERLAY):
                found.setdefault(USER_OVERLAY + name.removeprefix(OVERLAY), value)
        return found
