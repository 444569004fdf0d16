"""The clock of a bucket, read from the time that the bucket gives to an object when it is written.

The bucket is asked once a minute; until it is asked again, its time is computed with this machine's monotonic
clock. A publisher needs the time at each renewal of its lease, a collector before each deletion.
"""

import threading
import time
from collections.abc import Callable

from lazyfs.store.protocol import StoreError
from lazyfs.store.s3.client import Client

_FOLDER = ".clock"
_NAME = f"{_FOLDER}/look"
KEPT = 60.0
"""Seconds for which one reading is used: monotonic clocks drift by some ms in that time."""


class BucketClock:
    """The clock of one bucket. Thread-safe."""

    def __init__(self, client: Client, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._ahead = 0.0
        """The bucket's time minus this machine's monotonic clock, at the last reading."""
        self._looked: float | None = None

    def now(self) -> float:
        """Returns the time on the bucket's clock, in seconds since 1970. It is up to a second late if the
        bucket counts whole seconds. Raises StoreError."""
        with self._mutex:
            now = self._monotonic()
            if self._looked is None or now - self._looked > KEPT:
                self._client.put(_NAME, b"", None, {})
                written = [line.modified for line in self._client.listing(_FOLDER) if line.key == _NAME]
                if not written:
                    raise StoreError(f"store {self._client.location}: {_NAME} was written and is not listed")
                self._ahead, self._looked = written[0] - now, now
            return self._ahead + self._monotonic()
