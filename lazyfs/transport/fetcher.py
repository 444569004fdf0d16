"""The seam between what is asked for and how it travels."""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """One file of a store."""

    path: str
    """Relative to the store, e.g. `data/ab/cdef...` or `metadata/timestamp.json`."""
    max_bytes: int
    """A longer answer is an error: nothing above this is read or held."""
    deadline: float
    """On time.monotonic()'s clock. The call returns or raises by then, however slowly bytes trickle."""
    no_cache: bool = False
    """Ask caches on the way to go back to the origin (Cache-Control: no-cache)."""


class Fetcher(Protocol):
    """Brings files of one store. Blocking and thread-safe; called from worker threads."""

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = lambda: None) -> bytes:
        """The whole file as stored.

        Calls `check_cancelled` at least every second or every MiB while waiting; what it raises passes.
        Raises NotFound, DeadlineExceeded or another TransportError, never a foreign exception.
        """
        ...

    def close(self) -> None:
        """Gives back connections; a later fetch is an error."""
        ...
