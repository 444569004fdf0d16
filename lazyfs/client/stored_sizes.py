"""Estimates the bytes that objects of one repository take on their way. Pure.

The metadata of a repository state the sizes of plaintexts only. Stored objects are compressed, and what is
under way is held in memory as stored: an object is decompressed once it has come whole, and few are at one
time.
"""

import math
import threading
from typing import Final

LEAST: Final = 1 / 3
"""The smallest estimate, as a share of the plaintext. An image whose objects cannot be compressed, after
others that could, then takes three times the estimate, which is what an object takes while it is verified."""
_BEFORE: Final = 256 << 10
"""Number of plaintext bytes of objects without compression that count as seen before the first object."""
_REMEMBERED: Final = 16 << 20
"""Number of plaintext bytes after which older objects count half."""


class StoredSizes:
    """The compression that a repository's latest objects had. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored = self._plain = _BEFORE

    def came(self, stored: int, plain: int) -> None:
        """Notes that an object of `plain` bytes came as `stored` bytes."""
        with self._lock:
            self._stored += stored
            self._plain += plain
            if self._plain > _REMEMBERED:
                self._stored //= 2
                self._plain //= 2

    def of(self, plain: int) -> int:
        """Returns the estimate for an object of `plain` bytes: at least LEAST of them, at most all."""
        with self._lock:
            share = self._stored / self._plain
        return min(plain, math.ceil(plain * max(share, LEAST)))
