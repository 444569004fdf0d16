"""The cache directory of a mount: which one it is, and the cache in it."""

import os

from lazyfs.core.byte_size import parse_size
from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings import Settings
from lazyfs.system.user_namespace import is_root_of_node
from lazyfs_cache import Cache, CacheError, NullCache, open_cache


def default_cache() -> str:
    """Returns /var/cache/lazyfs for root, lazyfs below XDG_CACHE_HOME or ~/.cache for others.

    Raises UsageError for a user without a home.
    """
    if is_root_of_node():
        return "/var/cache/lazyfs"
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(above):
        raise UsageError(f"no cache directory: user {os.geteuid()} has no home; name one with --cache")
    return os.path.join(above, "lazyfs")


def open_in(directory: str, settings: Settings) -> Cache | NullCache:
    """Returns the cache in a cache directory, with a mount's settings. Raises UsageError."""
    limit = parse_size(settings.cache_limit, "cache_limit")
    if limit == 0:
        return NullCache()
    try:
        return open_cache(
            os.path.join(directory, "objects"),
            limit,
            keep_free=parse_size(settings.cache_keep_free, "cache_keep_free"),
            policy=settings.cache_policy,
        )
    except CacheError as error:
        raise UsageError(str(error)) from None
