"""One object on its way, for any number of readers."""

import time
from collections.abc import Callable
from typing import Final

import trio

from lazyfs.client.download import Download
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError, TransportError
from lazyfs.transport.fetcher import GivenUp

ECHO: Final = 1.0
"""Seconds for which the failure of a flight is still the answer to new readers. When its read-ahead has
failed, the kernel asks for a page again, and a reader would otherwise wait for two deadlines."""


class Flight(Download):
    """One object on its way, and the count of its waiting readers."""

    def __init__(
        self, ref: ObjectRef, deadline: float, size: int, *, optional: bool = False, ahead: bool = False
    ) -> None:
        """`size`: the number of bytes that the object counts for while it is under way. `ahead`: True if it
        is begun before any reader asks for it."""
        super().__init__(ref, deadline, optional=optional)
        self.size = size
        self.ahead = ahead
        self.wanted = False
        """True once a reader has asked for the object."""
        self.patience = deadline - time.monotonic()
        self.readers = 0
        self.hurried = 0
        """The number of readers that go on once the bytes are here. The others wait for the cache."""
        self.here = trio.Event()
        """Set once the bytes are here, and at the flight's end."""
        self.ended = trio.Event()
        self.told: list[Callable[[], None]] = []
        """Functions that are called at the flight's end, for callers of `Objects.bring`, which wait without a
        task."""
        self.failure: LazyfsError | None = None
        self.ended_at = 0.0

    def hastier_than(self, deadline: float, patience: float) -> bool:
        """Returns True if the flight gives up more than a second before a reader who waits for `patience`
        seconds in all, until `deadline`, and with less patience. Readers of equal patience fail together,
        whenever they came. A flight that no reader has begun fails for nobody else."""
        return self.deadline < deadline - 1 and (self.ahead or self.patience < patience - 1)

    def over(self) -> bool:
        """Returns True if the flight failed so long ago that new readers no longer get its failure as their
        answer."""
        return self.ended.is_set() and time.monotonic() - self.ended_at > ECHO


def failure_of(flight: Flight) -> LazyfsError | None:
    """Returns the error that the readers of an ended flight get; None if the flight has the object's
    bytes."""
    if flight.plain is not None:
        return None
    error = flight.error
    if isinstance(error, LazyfsError):
        return error
    name = f"object {flight.ref.digest.hex()}"
    if error is None or isinstance(error, GivenUp):
        return TransportError(f"{name}: reading was given up")
    failure = TransportError(f"{name}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
