"""The contents of a node's cache, by object and by image."""

import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

from lazyfs.client.private_cache import cache_key
from lazyfs.client.trust import persisted_revisions
from lazyfs.core import reach
from lazyfs.core.digest import ObjectRef
from lazyfs_cache import Cache


class CachedObject(NamedTuple):
    """One object in the cache."""

    digest: str
    """In hexadecimal."""
    size: int
    age: int
    """Seconds since the object was last used."""
    pins: int


class CachedImage(NamedTuple):
    """One image or published tree, as far as the catalogs in the cache describe it."""

    path: str
    """The repository's name, and the path in the repository."""
    held: int
    """Bytes of the image's objects in the cache."""
    known: int
    """Bytes of the image's objects, cached or not, that the catalogs in the cache name."""


def objects_by_age(cache: Cache, now: float) -> Iterator[CachedObject]:
    """Yields the objects in a cache, the least recently used first. `now`: seconds since 1970."""
    for key, entry in sorted(cache.entries(), key=lambda item: item[1].tick):
        yield CachedObject(key.hex(), entry.size, round(max(now - entry.tick / 1e6, 0)), entry.pins)


def images(cache: Cache, state_dir: str) -> Iterator[CachedImage]:
    """Yields the images that have at least one object in the cache, of all repositories ever mounted with
    this cache.

    `state_dir`: the directory of the trusted revisions. Raises FormatError.
    """
    here = {key for key, _ in cache.entries()}
    for name, root, own in persisted_revisions.revisions(state_dir):
        namespace = own if cache_key(own, root.digest) in here else b""
        read = functools.partial(_read, cache, here, namespace)
        seen: dict[ObjectRef, tuple[int, int]] = {}  # one tree may hang at many paths
        for image in reach.images(root, read):
            if image.ref not in seen:
                found = reach.walk([image], read)
                sizes = {cache_key(namespace, one.ref.digest): one.ref.size for one in found}
                seen[image.ref] = (
                    sum(size for key, size in sizes.items() if key in here),
                    sum(sizes.values()),
                )
            held, known = seen[image.ref]
            if held:
                yield CachedImage(os.path.join(name, os.fsdecode(image.path)), held, known)


def _read(cache: Cache, here: set[bytes], namespace: bytes, ref: ObjectRef) -> bytes | None:
    key = cache_key(namespace, ref.digest)
    plain = cache.get(key) if key in here else None
    return plain if plain is not None and len(plain) == ref.size else None
