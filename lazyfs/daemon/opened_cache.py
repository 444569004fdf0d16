"""The cache of a mount, opened with the mount's settings."""

from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import UsageError
from lazyfs.daemon.cache_directory import objects_directory
from lazyfs.daemon.settings import Settings
from lazyfs_cache import Cache, CacheError, NullCache, open_cache


def open_in(directory: str, settings: Settings) -> Cache | NullCache:
    """Opens the cache in a directory with a mount's settings and returns it. Raises UsageError."""
    limit = parse_size(settings.cache_limit, "cache_limit")
    if limit == 0:
        return NullCache()
    try:
        return open_cache(
            objects_directory(directory),
            limit,
            keep_free=parse_size(settings.cache_keep_free, "cache_keep_free"),
            policy=settings.cache_policy,
        )
    except CacheError as error:
        raise UsageError(str(error)) from None


def settings_not_taken(cache: Cache | NullCache, settings: Settings) -> list[str]:
    """Returns a line for each setting of the mount that its cache does not follow: the first process that
    opened the cache decides for all. A limit left at its default counts as followed."""
    stats = cache.stats()
    found = []
    wanted = parse_size(settings.cache_limit, "cache_limit")
    if wanted not in (stats.limit, parse_size(Settings().cache_limit, "cache_limit")) and stats.limit:
        found.append(
            f"--cache-limit {settings.cache_limit} is not taken: {stats.directory} is in use with a limit of "
            f"{shown_size(stats.limit)}; change it with: lazyfs cache resize {settings.cache_limit}"
        )
    if settings.cache_policy not in (None, stats.policy) and stats.policy:
        found.append(
            f"--cache-policy {settings.cache_policy} is not taken: {stats.directory} is in use with "
            f"{stats.policy}"
        )
    return found
