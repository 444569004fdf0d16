"""The daemon's log: one line for each record, a count for repeated records, in a file that can be reopened.

An outage makes every read of every job fail. Each kind of failure needs one line, not a thousand a second:
one looping job was seen to write 18 GiB a day.
"""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable

from lazyfs.core.errors import UsageError
from lazyfs.core.printable import escaped
from lazyfs.system.trusted_files import Untrusted, open_output

INTERVAL = 60.0
"""Seconds of an interval, in which one kind of record is written only once."""
MOST_KINDS = 200
"""The largest number of kinds of record written in one interval; the records of all further kinds are counted
together."""
MOST_CHARACTERS = 4000
"""The largest number of characters of one record; a traceback through trio has 3,000."""
_OTHERS = "records of other kinds"
_VARYING = re.compile(r"\b[0-9a-f]{2}/?[0-9a-f]{14,}\b|(?<![\w.:/-])\d+(?:\.\d+)?(?![\w:/-])")
"""The parts that differ between records of one kind: digests, and numbers that stand alone (no ports or
names)."""

log = logging.getLogger(__name__)


class RepeatFilter(logging.Filter):
    """Passes the first record of each kind in an interval, and reports at the end of the interval how many
    more there were. Thread-safe.

    A kind is a logger, a level, and a message without its digests and numbers. So two proxies that fail are
    two kinds, and a thousand objects that cannot be fetched are one.
    """

    def __init__(
        self, clock: Callable[[], float], tell: Callable[[int, str], None], interval: float = INTERVAL
    ) -> None:
        """`tell` is called with a level and a text that reports the records held back."""
        super().__init__()
        self._clock = clock
        self._tell = tell
        self._interval = interval
        self._lock = threading.Lock()
        self._began = clock()
        self._kinds: dict[str, tuple[int, int, str]] = {}
        """For each kind, the number of records held back in this interval, their level, and the message of
        the first one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns True if the record is to be written."""
        self.tell_repeats()
        message = record.getMessage()
        kind = f"{record.name} {record.levelno} {_VARYING.sub('#', message[:MOST_CHARACTERS])}"
        with self._lock:
            if kind not in self._kinds:
                if len(self._kinds) < MOST_KINDS:
                    self._kinds[kind] = 0, record.levelno, message
                    return True
                kind, message = _OTHERS, _OTHERS
            count, level, first = self._kinds.get(kind, (0, record.levelno, message))
            self._kinds[kind] = count + 1, level, first
            return False

    def tell_repeats(self) -> None:
        """Reports the records held back and begins the next interval, if the present one is over."""
        with self._lock:
            seconds = self._clock() - self._began
            if seconds < self._interval:
                return
            ended, self._kinds = self._kinds, {}
            self._began = self._clock()
        for count, level, message in ended.values():
            if count:
                self._tell(level, f"{message} ({count} more like this in {seconds:.0f} s)")


class _OneLine(logging.Formatter):
    """Writes a record's message in one line, in which names chosen by strangers are escaped. A traceback
    keeps its lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        shown = escaped(super().formatMessage(record))
        return shown if len(shown) <= MOST_CHARACTERS else shown[: MOST_CHARACTERS - 3] + "..."

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(map(escaped, lines))[-MOST_CHARACTERS:]


class DaemonLog:
    """Writes a daemon's records to standard error, which for a daemon in the background is the file of
    --log."""

    def __init__(self, path: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`path`: the file that is open as standard output and error; None for the caller's own streams."""
        self._path = path
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(_OneLine())
        self._filter = RepeatFilter(clock, self._tell)
        self._handler.addFilter(self._filter)

    def begin(self) -> None:
        """Writes the records of all loggers from now on."""
        logging.basicConfig(level=logging.INFO, handlers=[self._handler], force=True)

    def tell_repeats(self) -> None:
        """Writes the number of records held back in an interval that is over."""
        self._filter.tell_repeats()

    def reopen(self) -> None:
        """Continues in a new file if the old one was renamed. Keeps the old file if the new one cannot be
        opened."""
        if self._path is None:
            log.info("no log file to open anew")
            return
        try:
            target = open_log(self._path)
        except UsageError as error:
            log.warning("the log stays in the old file: %s", error)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
        log.info("log opened anew")

    def _tell(self, level: int, text: str) -> None:
        made = logging.LogRecord(__name__, level, __file__, 0, text, None, None)
        self._handler.acquire()
        try:
            self._handler.emit(made)
        finally:
            self._handler.release()


def open_log(path: str | None) -> int:
    """Returns a descriptor that appends to the log file `path`. Raises UsageError."""
    try:
        return open_output(path or os.devnull)
    except Untrusted as error:
        raise UsageError(f"--log {error}") from None
    except FileNotFoundError as error:
        raise UsageError(
            f"--log {path}: {error.strerror}; mkdir {os.path.dirname(path or '')} first"
        ) from None
    except OSError as error:
        raise UsageError(f"--log {path}: {error.strerror}") from None
