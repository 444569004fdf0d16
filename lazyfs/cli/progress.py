"""Progress on a terminal in place, in a log as a line now and then, never on standard output."""

import sys
import time

LOG_EVERY = 10.0
"""Seconds between lines in a log."""
TERMINAL_EVERY = 0.1


class Counter:
    """One line that changes. Use as a context manager."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()
        self._shown = False

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def show(self, line: str) -> None:
        """Shows the line if it is time."""
        now = time.monotonic()
        if not self._enabled or now - self._last < (TERMINAL_EVERY if self._terminal else LOG_EVERY):
            return
        self._last = now
        self._shown = True
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
