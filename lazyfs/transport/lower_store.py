"""A site's pre-filled store below the node's own cache. It is asked before the network and never written to,
and its answers are verified like a server's.

It is a store directory (data/ab/cdef..., as `lazyfs publish` writes it, or a copy of one), on a filesystem
that many nodes read: no index, no locks. Only objects come from it; missing or damaged ones come from the
network.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from lazyfs.core.errors import BadData, DeadlineExceeded, NotFound, TransportError
from lazyfs.transport.fetcher import Fetcher, Request, never_cancelled

log = logging.getLogger(__name__)

PAUSE: Final = 30.0
"""Seconds for which the lower directory is left alone after a failure; a missing file is no failure."""


class LowerFirst:
    """A Fetcher over two other Fetchers: `lower` for objects; `upper` for other files and for objects that
    `lower` does not bring."""

    def __init__(
        self, lower: Fetcher, upper: Fetcher, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lower = lower
        self._upper = upper
        self._clock = clock
        self._paused_until = 0.0

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Fetches an object from `lower`, or from `upper` if `lower` fails; any other file from `upper`.
        Raises as Fetcher.fetch, but no failure of `lower` except DeadlineExceeded."""
        if request.path.startswith("data/") and self._clock() >= self._paused_until:
            try:
                return self._lower.fetch(request, check_cancelled)
            except (NotFound, BadData):
                pass
            except DeadlineExceeded:
                raise
            except TransportError:
                self._paused_until = self._clock() + PAUSE
            except Exception:  # such as a bug that a damaged file meets: the network has a right copy
                self._paused_until = self._clock() + PAUSE
                log.exception("%s in the lower store", request.path)
        return self._upper.fetch(request, check_cancelled)

    def close(self) -> None:
        self._lower.close()
        self._upper.close()
