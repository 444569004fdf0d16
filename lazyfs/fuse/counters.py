"""The counters of a mount: the kernel's requests by type, waits for objects, failures."""

from collections import Counter
from typing import Any

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""The upper bounds, in seconds, of the buckets of the histogram of waits."""


class Counters:
    """The counts of a mount. Each count is a plain integer that one thread writes: an increment costs 30 ns
    and needs no lock. The event loop's thread counts in this object, every other one in a `part` of its own;
    `snapshot` adds them up."""

    def __init__(self) -> None:
        self.upcalls: dict[str, int] = {}
        """The number of the kernel's requests of each type, by the type's name in linux/fuse.h."""
        self.faults: dict[str, int] = {}
        """The number of calls that failed with EIO because of an error, by the error's class."""
        self.misses = 0
        """The number of objects that calls had to wait for."""
        self.fetched_bytes = 0
        """Plaintext bytes of the objects that calls had to wait for."""
        self.read_bytes = 0
        """The number of bytes of files that were handed to the kernel."""
        self.interrupted = 0
        """The number of waiting requests whose caller gave up."""
        self.malformed = 0
        """The number of requests that could not be parsed."""
        self.notified = 0
        """The number of invalidations sent to the kernel."""
        self.waits = [0] * (len(BOUNDS) + 1)
        """The histogram of rounds in which a call waited for objects: one number for each bound of BOUNDS,
        then one for longer rounds."""
        self.wait_seconds = 0.0
        self._parts: list[Counters] = []

    def part(self) -> "Counters":
        """Returns counters for another thread. `snapshot` adds the counts of that thread to these."""
        made = Counters()
        self._parts.append(made)
        return made

    def upcall(self, name: str) -> None:
        """Counts one request of the type `name`."""
        self.upcalls[name] = self.upcalls.get(name, 0) + 1

    def waited(self, seconds: float) -> None:
        """Counts one round of waiting that has ended."""
        self.wait_seconds += seconds
        for place, bound in enumerate(BOUNDS):
            if seconds <= bound:
                self.waits[place] += 1
                return
        self.waits[-1] += 1

    def snapshot(self) -> dict[str, Any]:
        """Returns the sums of all threads' counters, as values for JSON."""
        all_parts = [self, *self._parts]
        upcalls: Counter[str] = Counter()
        for part in all_parts:
            upcalls.update(part.upcalls.copy())
        return {
            "upcalls": dict(sorted(upcalls.items())),
            "faults": dict(self.faults),
            "misses": self.misses,
            "fetched_bytes": self.fetched_bytes,
            "read_bytes": sum(part.read_bytes for part in all_parts),
            "interrupted": self.interrupted,
            "malformed": sum(part.malformed for part in all_parts),
            "notified": self.notified,
            "wait_seconds": round(self.wait_seconds, 6),
            "waits": list(self.waits),
        }
