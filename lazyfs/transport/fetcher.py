"""The interface between requests for files of a store and their transport."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from lazyfs.core.errors import DeadlineExceeded


def as_stored(body: bytes) -> bytes:
    """Returns the body as it is: the accept function of requests whose bytes are not checked during
    transport."""
    return body


def never_cancelled() -> None:
    """Does nothing: the `check_cancelled` of calls that are never cancelled."""


class GivenUp(BaseException):
    """Raised by a request's `check_cancelled`, in any thread: nobody waits for the result any more."""


def still_wanted(
    what: str, deadline: float, check_cancelled: Callable[[], None] = never_cancelled
) -> Callable[[], None]:
    """Returns a check for long work inside of `Request.accept`. The check raises DeadlineExceeded once
    `deadline` (on time.monotonic()'s clock) has passed. In the thread that called `still_wanted` it also
    calls `check_cancelled`, whose exceptions it passes on. It does not do so in the thread of a second
    attempt beside a slow one, because no caller can cancel that thread's work. `what`: the name of the work,
    for the error's text."""
    own = threading.get_ident()

    def check() -> None:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"{what}: unfinished at the deadline")
        if threading.get_ident() == own:
            check_cancelled()

    return check


class Request(NamedTuple):
    """One file of a store."""

    path: str
    """The file's path below the store's top, e.g. `data/ab/cdef...` or `metadata/timestamp.json`."""
    max_bytes: int
    """The largest number of bytes of an answer. A longer answer is an error, and no more bytes of it are read
    or held."""
    deadline: float
    """The time on time.monotonic()'s clock by which the call returns or raises, however slowly bytes
    trickle."""
    no_cache: bool = False
    """True to ask caches on the way to fetch the file from the origin again (Cache-Control: no-cache)."""
    accept: Callable[[bytes], bytes] = as_stored
    """A function that turns the stored bytes into the result of `fetch` (decoded and verified), or raises
    BadData: the bytes are then fetched again, but not from the server or cache that sent the bad ones."""
    may_be_missing: bool = False
    """True if a 404 from an origin is an answer and no fault, as when the next root is asked for. Every other
    file is named by signed metadata: its 404 means a lagging replica or a lying proxy."""


class Rest(NamedTuple):
    """The part of a fetch that is left after its first attempt, and that may have to wait. Either `run` or
    `drop` is called, once."""

    run: Callable[[], bytes]
    """Finishes the fetch. Returns and raises as Fetcher.fetch."""
    drop: Callable[[], None]
    """Ends the fetch without a result; returns at once."""


class FetchLoop(Protocol):
    """Fetches of one store that one thread makes side by side. That thread calls everything but `wake`."""

    def begin(self, key: object, request: Request, check_cancelled: Callable[[], None]) -> None:
        """Begins a fetch, whose end `advance` will report under this key. `check_cancelled` is called in any
        thread."""
        ...

    def advance(self, timeout: float) -> list[tuple[object, bytes | BaseException | Rest]]:
        """Waits until a fetch has ended, the loop is woken, or `timeout` seconds are over. Returns the ended
        fetches, each with its result, with the exception that Fetcher.fetch would raise, or with a Rest,
        which another thread runs."""
        ...

    def wake(self) -> None:
        """Ends the present or the next wait. Thread-safe."""
        ...

    def close(self) -> None: ...


class Fetcher(Protocol):
    """Brings files of one store. Blocking and thread-safe; called from worker threads."""

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Returns the result of `request.accept` for the whole file as stored.

        Calls `check_cancelled` at least every second or every MiB while waiting; its exceptions are passed
        on. Raises NotFound, DeadlineExceeded or another TransportError, and BadData if every copy in reach is
        bad; never a library's exception.
        """
        ...

    def close(self) -> None:
        """Closes connections; a later fetch is an error."""
        ...


@runtime_checkable
class SideBySide(Protocol):
    """The additional methods of a Fetcher that can make many fetches in one thread."""

    def loop(self) -> FetchLoop | None:
        """Returns a loop; None if each fetch needs a thread of its own after all."""
        ...

    def expect(self, count: int) -> None:
        """Makes ready for `count` fetches that will begin within some seconds, and returns at once.
        Thread-safe."""
        ...
