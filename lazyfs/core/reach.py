"""Which objects a part of a repository is made of: for pinning an image, and listing a cache by image."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lazyfs.core.catalog.entry import LIVE, Entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import UsageError

Bring = Callable[[ObjectRef], bytes | None]
"""The plaintext of an object, None if it is to be done without."""


class Image(NamedTuple):
    """A snapshot below the live folders of a repository: where it hangs, and its catalog."""

    path: bytes
    catalog: ObjectRef


def objects_at(root: ObjectRef, path: bytes, bring: Bring) -> Iterator[ObjectRef]:
    """Every object of the file or directory at `path` (no links are followed), the catalogs that lead there
    included; each may come several times. What `bring` does without is not looked into.

    Raises UsageError if there is no such path.
    """
    yield root
    catalog = _catalog(root, bring)
    number = 0
    names = [name for name in path.split(b"/") if name]
    for position, name in enumerate(names, 1):
        entry = catalog.directory(number).find(name) if catalog else None
        if entry is None:
            raise UsageError(f"/{path.decode(errors='replace')}: there is no such path in the repository")
        if not entry.is_dir and position == len(names):
            yield from _content(entry, bring)
            return
        nested = entry.nested
        if nested:
            yield nested
            catalog, number = _catalog(nested, bring), 0
        else:
            number = entry.detail
    if catalog:
        yield from _below(catalog, number, bring)


def objects_of(catalog: ObjectRef, bring: Bring) -> Iterator[ObjectRef]:
    """Every object of what hangs at a catalog, itself included."""
    yield catalog
    opened = _catalog(catalog, bring)
    if opened:
        yield from _below(opened, 0, bring)


def _below(catalog: Catalog, number: int, bring: Bring) -> Iterator[ObjectRef]:
    for entry in catalog.directory(number).entries:
        if entry.nested:
            yield from objects_of(entry.nested, bring)
        elif entry.is_dir:
            yield from _below(catalog, entry.detail, bring)
        else:
            yield from _content(entry, bring)


def _content(entry: Entry, bring: Bring) -> Iterator[ObjectRef]:
    if not entry.is_file:
        return
    if entry.whole:
        yield entry.whole
    elif entry.chunk_list:
        yield entry.chunk_list
        encoded = bring(entry.chunk_list)
        if encoded is not None:
            chunks = ChunkList(encoded, entry.size, entry.detail)
            yield from (part.ref for part in chunks.slices(0, entry.size))


def images(root: ObjectRef, bring: Bring) -> Iterator[Image]:
    """The snapshots of a revision, as far as its folders can be had."""
    yield from _images(root, b"", bring)


def _images(ref: ObjectRef, path: bytes, bring: Bring) -> Iterator[Image]:
    catalog = _catalog(ref, bring)
    pending = [(0, path)] if catalog else []
    while pending and catalog:
        number, folder = pending.pop()
        for entry in catalog.directory(number).entries:
            place = folder + b"/" + entry.name if folder else entry.name
            if entry.nested and entry.flags & LIVE:
                yield from _images(entry.nested, place, bring)
            elif entry.nested:
                yield Image(place, entry.nested)
            elif entry.is_dir:
                pending.append((entry.detail, place))


def _catalog(ref: ObjectRef, bring: Bring) -> Catalog | None:
    encoded = bring(ref)
    return None if encoded is None else Catalog(encoded)
