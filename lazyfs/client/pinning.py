"""Objects that an operator keeps in the cache: everything below one path of a revision, fetched and held."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lazyfs.client.download import Downloader
from lazyfs.client.private_cache import PrivateCache, cache_key
from lazyfs.core import reach
from lazyfs.core.digest import ObjectRef
from lazyfs.transport.fetcher import Fetcher, never_cancelled
from lazyfs_cache import Cache

SECONDS = 60.0
"""Timeout of one object's download, in seconds."""
_THREADS = 16


class PinnedPath(NamedTuple):
    """The result of one call of `pin`."""

    objects: int
    bytes: int
    missing: int
    """Objects that the cache did not admit."""


def pin(
    cache: Cache, fetcher: Fetcher, root: ObjectRef, path: bytes, label: bytes, namespace: bytes = b""
) -> PinnedPath:
    """Fetches every object of the file or directory at `path` of a revision, and keeps them under a label
    until `cache.drop(label)`. `namespace`: the namespace of a private repository's objects in the cache.

    Blocking. Raises UsageError if there is no such path, CacheError if the cache has too little room, and the
    errors of a download.
    """
    downloader = Downloader(fetcher, PrivateCache(cache, namespace) if namespace else cache)

    def download(ref: ObjectRef) -> bytes:
        return downloader.download(ref, time.monotonic() + SECONDS, never_cancelled)

    found = reach.objects_at(root, path, download)
    refs = {cache_key(namespace, one.ref.digest): one.ref for one in found}
    cache.keep(label, {key: ref.size for key, ref in refs.items()})
    _for_all(download, refs.values())
    missing = sum(cache.size(key) is None for key in refs)
    return PinnedPath(len(refs), sum(ref.size for ref in refs.values()), missing)


def _for_all(download: Callable[[ObjectRef], bytes], refs: Iterable[ObjectRef]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(download, refs):
            pass
