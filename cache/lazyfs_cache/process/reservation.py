"""Space held for one value on its way."""

import threading
from types import TracebackType

from lazyfs_cache.policy.allowance import Drawn
from lazyfs_cache.process.index_generation import IndexGeneration


class Reservation:
    """Space for one value; given back unless `Cache.put` used it."""

    def __init__(
        self,
        key: bytes,
        size: int,
        charge: int,
        drawn: Drawn,
        generation: IndexGeneration,
        wake: threading.Event,
    ) -> None:
        self.key = key
        self.size = size
        self.charge = charge
        """Upper bound of the bytes of disk that the value occupies."""
        self.generation = generation
        self.recycled = drawn.over
        """The number of the spare file (the file of an evicted value) that the value is to be written over;
        None for a new file."""
        self._wake = wake
        self.over = False
        """True once the reservation was used or given back, and holds no space any more."""

    def release(self) -> None:
        """Gives the space back; the second call does nothing."""
        if self.over:
            return
        self.over = True
        if self.recycled is not None:
            self.generation.spares.discard([self.recycled])
        self.generation.allowance.give_back(self.charge)
        self._wake.set()

    def used(self) -> None:
        """Notes that the value is here: its entry in the index is charged for the space, now or soon."""
        self.over = True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
