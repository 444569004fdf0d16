"""Reads file content: a plan finds the parts of objects for (number, offset, length), then the parts are
read.

The plan is made once for each read, under the tree's lock. Its parts are read without the lock: those in the
local cache at once, missing ones after they have been fetched.
"""

import errno
import os

import msgspec

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef, ObjectSlice
from lazyfs.vfs.missing_objects import NOTHING, Fetched, LocalObjects, Need, NeedRepository
from lazyfs.vfs.tree import Tree


class ReadPlan(msgspec.Struct, frozen=True):
    """A read of one file, and the parts of objects that answer it."""

    number: int
    """The file's inode number."""
    repository: str
    entry: Entry
    offset: int
    length: int
    """Bytes asked for; the file may end earlier."""
    slices: list[ObjectSlice]
    """The parts in the order of the file, cut at its end; empty if the read begins beyond the end."""
    chunks: ChunkList | None
    """The chunks of the file, if it has several and the read begins before its end."""

    @property
    def small_file(self) -> ObjectRef | None:
        """SHA-256 and size of the file, if it lies in a pack and the read begins before its end."""
        if self.entry.pack_number < 0 or not self.slices:
            return None
        return ObjectRef(Digest(self.entry.content), self.entry.size)


class NeedContent(Need):
    """The missing parts of a planned read. The plan is kept, so it need not be made again."""

    def __init__(self, plan: ReadPlan, refs: tuple[ObjectRef, ...]) -> None:
        super().__init__(plan.repository, refs)
        self.plan = plan


def plan_read(tree: Tree, number: int, offset: int, length: int, fetched: Fetched = NOTHING) -> ReadPlan:
    """Finds the objects that hold bytes [offset, offset + length) of a file.

    Raises Need for a catalog or the file's chunk list, OSError for anything but a regular file.
    """
    entry, packs = tree.entry_and_packs(number, fetched)
    if not entry.is_file:
        wrong = errno.EISDIR if entry.is_dir else errno.EINVAL
        raise OSError(wrong, os.strerror(wrong))
    repository = tree.slot(number)[0].repository
    inside = min(length, entry.size - offset)
    chunks = None
    slices: list[ObjectSlice] = []
    place = entry.place(packs) if inside > 0 else None
    if place:
        slices = [ObjectSlice(place.ref, place.start + offset, inside)]
    elif inside > 0:
        chunks = entry.chunks or chunk_list(tree, repository, entry, fetched)
        slices = chunks.slices(offset, inside)
    return ReadPlan(number, repository, entry, offset, length, slices, chunks)


def chunk_list(tree: Tree, repository: str, entry: Entry, fetched: Fetched = NOTHING) -> ChunkList:
    """Returns the chunks of a file whose list is an object. Raises Need, NeedRepository."""
    listed = entry.chunk_list
    assert listed is not None
    opened = tree.repositories.get(repository)
    if opened is None:  # a file that several images share is known without its catalog
        raise NeedRepository(repository)
    return tree.parsed.chunk_list(repository, listed, entry.size, entry.detail, opened.objects, fetched)


def pieces(plan: ReadPlan, objects: LocalObjects, fetched: Fetched = NOTHING) -> list[bytes]:
    """Returns the planned bytes, in pieces to be joined. Does not use the tree, so no lock is needed.

    Raises NeedContent with every missing object, so that all are fetched together.
    """
    found: list[bytes] = []
    missing = []
    file = plan.small_file
    if file is not None:
        copy = objects.copy_at_hand(file, plan.offset, plan.slices[0].length, fetched)
        if copy is not None:
            return [copy]
    for ref, start, size in plan.slices:
        have = fetched.get(ref.digest)
        piece = have[start : start + size] if have else objects.read_at_hand(ref, start, size)
        if piece is None:
            missing.append(ref)
        else:
            found.append(piece)
    if missing:
        raise NeedContent(plan, tuple(missing))
    return found
