"""The switch of a cache: an error that means a broken disk turns the cache off until it is opened again."""

import errno
import logging
from collections.abc import Callable

from lazyfs_cache.errors import CacheError
from lazyfs_cache.index.faults import DAMAGED, DiskFull, IndexFailure, MapFull

log = logging.getLogger("lazyfs_cache")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that mean that the disk, or the user's part of it, is full."""

_HARMLESS = FULL | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN}
"""Errors of one call that are no sign of a broken disk."""


class Health:
    """The switch of one cache in this process."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.off: str | None = None
        """The reason why the cache is off; None while it is on."""

    def fail(self, error: OSError | IndexFailure) -> None:
        """Turns the cache off because of an error, unless the error says that the disk or the index is full,
        or is one that passes (`_HARMLESS`)."""
        if isinstance(error, (DiskFull, MapFull)):
            return
        if isinstance(error, OSError) and error.errno in _HARMLESS:
            return
        self.turn_off(str(error))

    def turn_off(self, why: str) -> None:
        """Turns the cache off, with one warning the first time."""
        if self.off is None:
            self.off = why
            log.warning("cache %s: turned off, reads go on without it: %s", self._root, why)

    def end(self, why: str) -> None:
        """Turns the cache off without a warning: it was closed, or belongs to another process."""
        self.off = why

    def guard(self, act: Callable[[], None]) -> None:
        """Calls `act`; any error that it raises turns the cache off."""
        try:
            act()
        except (OSError, CacheError, *DAMAGED, IndexFailure) as error:
            self.turn_off(str(error))
