"""From (number, offset, length) to bytes: which parts of which objects, and what of them is at hand."""

import errno
import os

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.chunks import ChunkList, ChunkSlice
from lazyfs.vfs.missing_objects import NOTHING, Brought, Need
from lazyfs.vfs.tree import Repository, Tree


def slices(tree: Tree, number: int, offset: int, length: int, brought: Brought = NOTHING) -> list[ChunkSlice]:
    """The parts of objects that hold these bytes of a file, cut at its end."""
    entry, repository = file(tree, number, brought)
    return parts(tree, repository, entry, offset, length, brought)


def file(tree: Tree, number: int, brought: Brought = NOTHING) -> tuple[Entry, Repository]:
    """The regular file with this number; raises EISDIR, or EINVAL for what has no content."""
    entry = tree.entry(number, brought)
    if not entry.is_file:
        wrong = errno.EISDIR if entry.is_dir else errno.EINVAL
        raise OSError(wrong, os.strerror(wrong))
    return entry, tree.repositories[tree.slot(number)[0].repository]


def parts(
    tree: Tree, repository: Repository, entry: Entry, offset: int, length: int, brought: Brought = NOTHING
) -> list[ChunkSlice]:
    """Like `slices`, of an entry that is known."""
    length = min(length, entry.size - offset)
    if length <= 0:
        return []
    whole = entry.whole
    if whole:
        return [ChunkSlice(whole, offset, length)]
    return chunk_list(tree, repository, entry, brought).slices(offset, length)


def chunk_list(tree: Tree, repository: Repository, entry: Entry, brought: Brought = NOTHING) -> ChunkList:
    """The chunks of a file that has several. Raises Need."""
    listed = entry.chunk_list
    assert listed is not None
    return tree.parsed.chunk_list(
        repository.name, listed, entry.size, entry.detail, repository.objects, brought
    )


def read(tree: Tree, number: int, offset: int, length: int, brought: Brought = NOTHING) -> list[bytes]:
    """The bytes [offset, offset + length) of a file, cut at its end, in pieces to be joined.

    Raises Need or OSError.
    """
    entry, repository = file(tree, number, brought)
    return pieces(repository, parts(tree, repository, entry, offset, length, brought), brought)


def pieces(repository: Repository, wanted: list[ChunkSlice], brought: Brought = NOTHING) -> list[bytes]:
    """The bytes of these parts. Touches no tree: no lock is needed.

    Raises Need with every object that is missing, so that they travel together.
    """
    found: list[bytes] = []
    missing = []
    for ref, start, size in wanted:
        have = brought.get(ref.digest)
        piece = have[start : start + size] if have else repository.objects.read_at_hand(ref, start, size)
        if piece is None:
            missing.append(ref)
        else:
            found.append(piece)
    if missing:
        raise Need(repository.name, tuple(missing))
    return found
