"""What a node's cache holds, by object and by image."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.client.trust import persisted_revisions
from lazyfs.core import reach
from lazyfs.core.digest import ObjectRef
from lazyfs_cache import Cache


class CachedObject(NamedTuple):
    """One object."""

    digest: str
    """In hexadecimal."""
    size: int
    age: int
    """Seconds since it was last used."""
    pins: int


class CachedImage(NamedTuple):
    """One image or published tree, or as much of it as the catalogs in the cache tell."""

    path: str
    """Repository and path in it."""
    held: int
    """Bytes of its objects in the cache."""
    known: int
    """Bytes of its objects that the catalogs in the cache name."""


def objects_by_age(cache: Cache, now: float) -> Iterator[CachedObject]:
    """Yields the objects, the least recently used first. `now`: seconds since 1970."""
    for key, entry in sorted(cache.entries(), key=lambda item: item[1].tick):
        yield CachedObject(key.hex(), entry.size, round(max(now - entry.tick / 1e6, 0)), entry.pins)


def images(cache: Cache, state_dir: str) -> Iterator[CachedImage]:
    """Yields the images of which something is here, of all repositories ever mounted with this cache.

    `state_dir`: where the trusted revisions are kept. Raises FormatError.
    """
    here = {key: entry.size for key, entry in cache.entries()}

    def read(ref: ObjectRef) -> bytes | None:
        return cache.get(ref.digest) if ref.digest in here else None

    for name, root in persisted_revisions.roots(state_dir):
        for image in reach.images(root, read):
            sizes = {found.ref.digest: found.ref.size for found in reach.walk([image], read)}
            held = sum(size for digest, size in sizes.items() if digest in here)
            if held:
                path = os.path.join(name, os.fsdecode(image.path))
                yield CachedImage(path, held, sum(sizes.values()))
