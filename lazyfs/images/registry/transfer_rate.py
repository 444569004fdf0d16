"""The rate of a transfer over the last minutes. A transfer that only trickles is ended, whatever its stated
size."""

from collections.abc import Callable, Iterator

from lazyfs.core.errors import TransportError

WINDOW, LEAST = 300.0, 16 << 10
"""WINDOW: seconds of waiting for parts over which the rate is measured. LEAST: the bytes a second that the
rate must reach, slower than any line on which publishing makes sense."""


class TransferRate:
    """Measures one transfer, over all requests that it takes. The reader's own time between the parts does
    not count."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        """`name`: the name of the transferred file in messages."""
        self._name = name
        self._now = now
        self._waited = 0.0
        self._bytes = 0

    def watched(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Yields the parts. Raises TransportError once they come too slowly."""
        while True:
            asked = self._now()
            part = next(parts, None)
            if part is None:
                return
            self._waited += self._now() - asked
            self._bytes += len(part)
            if self._waited >= WINDOW:
                if self._bytes < LEAST * self._waited:
                    raise TransportError(
                        f"{self._name} comes too slowly: {self._bytes} bytes in the last {self._waited:.0f} s"
                    )
                self._waited, self._bytes = 0.0, 0
            yield part
