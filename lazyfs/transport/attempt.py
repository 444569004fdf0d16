"""One attempt and its answer, the same for every HTTP library."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol


class Attempt(NamedTuple):
    """One GET over one path."""

    url: str
    proxy: str | None
    """URL of the proxy; None to go straight to the origin."""
    max_bytes: int
    deadline: float
    """The deadline on time.monotonic()'s clock."""
    no_cache: bool = False
    patience: float | None = None
    """An upper bound, in seconds, for the time without a byte and for the window over which the minimum rate
    is measured, in addition to the client's own limits. It is set if another path is waiting to be tried."""


class Answer(NamedTuple):
    """A whole body with status 200."""

    body: bytes
    first_byte: float
    """Seconds from the start of the attempt."""
    elapsed: float
    """Seconds until the last byte."""
    html: bool
    """True if Content-Type is HTML. If the bytes are also wrong, the answer counts as a captive portal's."""
    from_cache: bool
    """True if a cache on the way had the object: the time then says nothing about the origin."""
    date: str
    """The header Date: the server's clock. Empty if there is none."""


class Client(Protocol):
    """Makes attempts; thread-safe."""

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        """Returns the answer. Raises AttemptFailed, or the exceptions of `check_cancelled`. Ends within 0.2 s
        after the deadline."""
        ...

    def loop(self) -> "AttemptLoop | None":
        """Returns a loop for many attempts in one thread; None if each needs a thread of its own."""
        ...

    def expect(self, urls: Mapping[str, int]) -> None:
        """Makes ready for requests that will come soon, and returns at once. `urls`: the number of requests
        for each URL of a proxy or an origin."""
        ...

    def close(self) -> None: ...


class AttemptLoop(Protocol):
    """Attempts that one thread makes side by side. That thread calls everything but `wake`."""

    def begin(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> object | None:
        """Begins an attempt; returns the key under which `advance` will report its end. Returns None if the
        attempt would wait for the name service: it must then be made in a thread that may wait."""
        ...

    def advance(self, timeout: float) -> Sequence[tuple[object, Answer | BaseException]]:
        """Waits until an attempt has ended, the loop is woken, or `timeout` seconds are over; or earlier, if
        a limit has to be checked. Returns the attempts that have ended, each with the result or the exception
        of `Client.get`."""
        ...

    def wake(self) -> None:
        """Ends the present or the next wait. Thread-safe."""
        ...

    def close(self) -> None:
        """Gives up the attempts under way, and closes all connections."""
        ...
