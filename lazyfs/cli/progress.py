"""Progress on standard error: one line that is redrawn on a terminal, or a new line every ten seconds in a
log."""

import sys
import time

from lazyfs.core.printable import escaped

LOG_EVERY = 10.0
"""Seconds between lines in a log."""
TERMINAL_EVERY = 0.1
"""Seconds between changes of the line on a terminal."""


class Counter:
    """Shows one line of progress. Use as a context manager."""

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
        """Shows the line; does nothing if the last line was shown less than TERMINAL_EVERY seconds ago on a
        terminal, or less than LOG_EVERY seconds ago in a log."""
        now = time.monotonic()
        if not self._enabled or now - self._last < (TERMINAL_EVERY if self._terminal else LOG_EVERY):
            return
        line = escaped(line)
        self._last = now
        self._shown = True
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
