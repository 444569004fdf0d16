"""The one walk from a catalog to every object that it leads to.

It is used by checks, profiles, pinning, garbage collection and the listing of a cache by image. The walk is
pure and iterative: the caller supplies the bytes, and may skip some objects. Each object is yielded once, so
that a repository in which everything is named twice at each of 40 levels is walked in the time that its few
objects take. `walk` asks for one object after the other; a caller that reads many side by side uses
`leads_to` and `Seen` with a queue of its own.
"""

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from lazyfs.core import collected_profiles, profile
from lazyfs.core.catalog.entry import LIVE, Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.history import head
from lazyfs.core.pack import NO_PACKS, PackTable

Read = Callable[[ObjectRef], bytes | None]
"""A function that returns the verified plaintext of an object; None to leave out the object and those that
only it leads to."""


class ObjectKind(enum.StrEnum):
    """The use a repository makes of an object; the value is its name in messages."""

    CATALOG = "catalog"
    CHUNK_LIST = "chunk list"
    CHUNK = "chunk"
    FILE = "file content"
    """The content of a file that is one object."""
    PACK = "pack"
    """The contents of several small files. The walk yields a pack once for each file in it, with the file's
    slice. It yields the hot packs of a profile in the same way."""
    PROFILE = "profile"
    PROFILES = "list of profiles"
    HISTORY = "history"
    BLOCK = "block of a history"
    CHANGES = "changes of a revision"


_LEAVES = frozenset(map(ObjectKind, ("chunk", "file content", "pack", "changes of a revision")))


class _Path(NamedTuple):
    """A path as its last name and the path above: a deep tree takes one of these for each directory."""

    above: "_Path | None"
    name: bytes


class Reached(NamedTuple):
    """One object, and the first way that led to it."""

    ref: ObjectRef
    """Digest, and size in plaintext bytes."""
    kind: ObjectKind
    parent: "Reached | None" = None
    """The catalog, chunk list or profile that names the object; None for the start of the walk."""
    at: _Path | None = None
    file_size: int = 0
    """Bytes of the file, for a chunk list and for a packed file."""
    chunk_shift: int = 0
    """log2 of the chunk size of a chunk list's file."""
    content: Digest | None = None
    """SHA-256 of the file that lies in a pack, in `file_size` bytes at `start`."""
    start: int = 0
    block: head.BlockAt | None = None
    """For a block of a history: the block with its level and end, as the object above states them."""

    @property
    def leads_on(self) -> bool:
        """True if the object's bytes name other objects."""
        return self.kind not in _LEAVES

    @property
    def path(self) -> bytes:
        """Path of the object's file or directory below the start of the walk; empty for the start itself."""
        names = []
        step = self.at
        while step is not None:
            names.append(step.name)
            step = step.above
        return b"/".join(reversed(names))

    def above(self) -> list[ObjectRef]:
        """Returns the objects that lead to this one, from the start of the walk; this one is left out."""
        found = []
        step = self.parent
        while step is not None:
            found.append(step.ref)
            step = step.parent
        return found[::-1]


class Seen:
    """The set of objects that a walk has yielded."""

    def __init__(self) -> None:
        self._refs: set[ObjectRef] = set()
        self._leading: set[tuple[ObjectRef, ObjectKind, int, int]] = set()

    def first(self, found: Reached) -> bool:
        """Returns True if the object was not yielded before, and notes that it is now. An object that is used
        in two ways counts as two: a file may hold the bytes of a catalog, and the objects below that catalog
        must not be lost."""
        if found.leads_on:
            role = (found.ref, found.kind, found.file_size, found.chunk_shift)
            if role in self._leading:
                return False
            self._leading.add(role)
        elif found.ref in self._refs:
            return False
        self._refs.add(found.ref)
        return True


def catalog_at(ref: ObjectRef) -> Reached:
    """Returns a start for a walk: a catalog, below which paths begin."""
    return Reached(ref, ObjectKind.CATALOG, None)


def history_at(ref: ObjectRef) -> Reached:
    """Returns a start for a walk: the head of a history. It leads to the blocks and changes of all revisions,
    but not to their catalogs."""
    return Reached(ref, ObjectKind.HISTORY)


def profile_at(ref: ObjectRef) -> Reached:
    """Returns a start for a walk: a profile. It leads to its hot packs."""
    return Reached(ref, ObjectKind.PROFILE)


def profiles_at(ref: ObjectRef) -> Reached:
    """Returns a start for a walk: the list of collected profiles."""
    return Reached(ref, ObjectKind.PROFILES, None, _Path(None, b"collected profiles"))


def walk(starts: Iterable[Reached], read: Read, *, profiles: bool = False) -> Iterator[Reached]:
    """Yields every object reachable from `starts`, these included: each catalog before the objects below it.

    `profiles`: also yields the objects that images' profiles lead to. Raises FormatError, and the exceptions
    of `read`.
    """
    yield from _walk([iter(starts)], Seen(), read, profiles=profiles)


def _walk(stack: list[Iterator[Reached]], seen: Seen, read: Read, *, profiles: bool) -> Iterator[Reached]:
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif seen.first(found):
            yield found
            encoded = read(found.ref) if found.leads_on else None
            if encoded is not None:
                stack.append(leads_to(found, encoded, profiles=profiles))


def leads_to(found: Reached, encoded: bytes, *, profiles: bool = False) -> Iterator[Reached]:
    """Yields the objects that the plaintext `encoded` of the object `found` names, repetitions included.
    `profiles`: as for `walk`. Raises FormatError."""
    match found.kind:
        case ObjectKind.CATALOG:
            yield from _below(found, Catalog(encoded), 0, found.at, profiles=profiles)
        case ObjectKind.CHUNK_LIST:
            chunks = ChunkList(encoded, found.file_size, found.chunk_shift)
            for index in range(len(chunks)):
                yield Reached(chunks.chunk(index), ObjectKind.CHUNK, found, found.at)
        case ObjectKind.PROFILE:
            for pack in profile.decode(encoded).listed():
                for start, file in pack.places():
                    yield Reached(
                        pack.ref, ObjectKind.PACK, found, found.at, file.size, 0, file.digest, start
                    )
        case ObjectKind.PROFILES:
            for one in collected_profiles.decode(encoded):
                yield Reached(one.profile, ObjectKind.PROFILE, found, found.at)
        case ObjectKind.HISTORY | ObjectKind.BLOCK:
            for ref, block in head.leads_to(encoded, found.block):
                kind = ObjectKind.BLOCK if block else ObjectKind.CHANGES
                yield Reached(ref, kind, found, block=block)


def _below(
    found: Reached, catalog: Catalog, start: int, at: _Path | None, *, profiles: bool
) -> Iterator[Reached]:
    """Yields the objects that are named by the entries below directory `start`, which lies at path `at`."""
    for entry, path in _entries(catalog, start, at):
        if entry.nested:
            yield Reached(entry.nested, ObjectKind.CATALOG, found, path)
            hinted = profile.hinted(entry) if profiles and catalog.header.live else None
            if hinted:
                yield Reached(hinted, ObjectKind.PROFILE, found, path)
        else:
            yield from _content(found, entry, catalog.packs, path)


def _entries(catalog: Catalog, start: int, at: _Path | None) -> Iterator[tuple[Entry, _Path]]:
    """Yields the entries below directory `start`, which lies at path `at`, each with its path. A directory in
    the same catalog is not yielded itself, only the entries below it."""
    # A directory's number is higher than its parent's, so one pass meets them all.
    paths = {start: at}
    for number in range(start, catalog.directories):
        if number not in paths:
            continue
        above = paths.pop(number)
        for entry in catalog.directory(number).entries:
            path = _Path(above, entry.name)
            if entry.is_dir and not entry.nested:
                paths.setdefault(entry.detail, path)
            else:
                yield entry, path


def _content(found: Reached, entry: Entry, packs: PackTable, path: _Path) -> Iterator[Reached]:
    place = entry.place(packs)
    if place and entry.pack_number >= 0:
        digest = Digest(entry.content)
        yield Reached(place.ref, ObjectKind.PACK, found, path, entry.size, 0, digest, place.start)
    elif place:
        yield Reached(place.ref, ObjectKind.FILE, found, path)
    elif chunks := entry.chunks:
        for index in range(len(chunks)):
            yield Reached(chunks.chunk(index), ObjectKind.CHUNK, found, path)
    elif entry.chunk_list:
        yield Reached(entry.chunk_list, ObjectKind.CHUNK_LIST, found, path, entry.size, entry.detail)


def objects_at(root: ObjectRef, path: bytes, read: Read) -> Iterator[Reached]:
    """Yields every object of the file or directory at `path` of a revision, the catalogs that lead there
    included. No links are followed. Raises UsageError if the path does not exist."""
    seen = Seen()
    here = catalog_at(root)
    catalog, number = _open(here, seen, read)
    yield here
    at = None
    names = _names(path)
    for position, name in enumerate(names, 1):
        entry = catalog.directory(number).find(name) if catalog else None
        at = _Path(at, name)
        if entry is None or not (entry.is_dir or position == len(names)):
            raise UsageError(f"/{path.decode(errors='replace')}: there is no such path in the repository")
        if entry.nested:
            here = Reached(entry.nested, ObjectKind.CATALOG, here, at)
            catalog, number = _open(here, seen, read)
            yield here
        elif entry.is_dir:
            number = entry.detail
        else:
            packs = catalog.packs if catalog else NO_PACKS
            yield from _walk([_content(here, entry, packs, at)], seen, read, profiles=False)
            return
    if catalog:
        yield from _walk([_below(here, catalog, number, at, profiles=False)], seen, read, profiles=False)


def _open(found: Reached, seen: Seen, read: Read) -> tuple[Catalog | None, int]:
    seen.first(found)
    encoded = read(found.ref)
    return None if encoded is None else Catalog(encoded), 0


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name]


def images(root: ObjectRef, read: Read) -> Iterator[Reached]:
    """Yields the catalogs at which the images and published trees of a revision hang, as far as the folders
    above them can be read. A folder that hangs at several paths is read at the first one only."""
    seen = Seen()
    stack = [iter((catalog_at(root),))]
    while stack:
        folder = next(stack[-1], None)
        if folder is None:
            stack.pop()
        elif seen.first(folder):
            encoded = read(folder.ref)
            if encoded is not None:
                folders, found = _hanging(folder, Catalog(encoded))
                yield from found
                stack.append(iter(folders))


def _hanging(folder: Reached, catalog: Catalog) -> tuple[list[Reached], list[Reached]]:
    """Returns the folders that hang directly in `folder`, and the images that hang there."""
    folders: list[Reached] = []
    images: list[Reached] = []
    for entry, path in _entries(catalog, 0, folder.at):
        if entry.nested:
            reached = Reached(entry.nested, ObjectKind.CATALOG, folder, path)
            (folders if entry.flags & LIVE else images).append(reached)
    return folders, images
