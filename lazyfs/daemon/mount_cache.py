"""The cache of a mount. Its values can be read at once. The parts that only misses need are opened once the
mount answers."""

import logging
from typing import TYPE_CHECKING

from lazyfs.client.local_cache import LocalCache
from lazyfs.core.byte_size import parse_size
from lazyfs.core.errors import UsageError
from lazyfs.daemon.cache_directory import objects_directory
from lazyfs.daemon.settings import Settings

if TYPE_CHECKING:
    from lazyfs_cache import Cache, NullCache
    from lazyfs_cache.standing_values import StandingValues

log = logging.getLogger(__name__)


class MountCache:
    """The cache of a mount, from its directory to its close."""

    def __init__(self, directory: str, settings: Settings) -> None:
        """Opens the cache, unless its values can be read without opening it. Raises UsageError."""
        self._directory = directory
        self._settings = settings
        self._opened: Cache | NullCache | None = None
        self.notes: list[str] = []
        """A line for each setting of the mount that its cache does not follow."""
        self._standing = self._values_that_stand()
        if self._standing is None:
            self._open()

    @property
    def readable(self) -> LocalCache:
        """The cache as far as it is open: at least, the values in its directory can be read."""
        return self._standing or self.opened

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def opened(self) -> "Cache | NullCache":
        """The opened cache."""
        assert self._opened is not None
        return self._opened

    def open(self, *, mount_answers: bool) -> None:
        """Opens the cache, which is not open yet. If that fails and the mount answers already
        (`mount_answers`), the mount goes on without a cache: it must not vanish from under its readers. If it
        does not answer yet, raises UsageError."""
        try:
            self._open()
        except UsageError as error:
            if not mount_answers:
                raise
            from lazyfs_cache import NullCache

            log.error("no cache: %s", error)  # noqa: TRY400 - the message says all
            self._opened = NullCache(str(error))

    def close(self) -> None:
        """Closes the cache, as far as it is open."""
        if self._opened is not None:
            self._opened.close()
        if self._standing is not None:
            self._standing.close()

    def _open(self) -> None:
        from lazyfs.daemon.opened_cache import open_in, settings_not_taken

        self._opened = open_in(self._directory, self._settings)
        self.notes = settings_not_taken(self._opened, self._settings)

    def _values_that_stand(self) -> "StandingValues | None":
        """Returns the values in the cache's directory, to be read before the cache is opened. Returns None if
        the cache has to be opened at once. This is so if no usable cache is there yet, or if the cache has
        another limit or policy than the settings: then the command has to tell its user. It is also so if
        root mounts for another user: that user might not be able to load the cache's modules later."""
        settings = self._settings
        limit = parse_size(settings.cache_limit, "cache_limit")
        if limit == 0 or settings.user is not None:
            return None
        from lazyfs_cache.standing_values import standing_values

        found = standing_values(objects_directory(self._directory))
        if found is None:
            return None
        if found.limit != limit or settings.cache_policy not in (None, found.policy):
            found.close()
            return None
        return found
