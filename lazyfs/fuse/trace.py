"""The access trace: the objects that each file needed, with time, source and duration.

One JSON array per line: [seconds since 1970, operation, path, object, bytes, source, microseconds]. `read` is
a part of a file that the kernel asked for (source `cache`, or `network` if it had to be waited for); `fetch`
is an object that a call waited for. A `read` of a file in a pack has an eighth element, the file's SHA-256.
The `read` lines name the objects and small files that a real start touches: profiles are made from them.
"""

import json
import logging
import queue
import threading
import time
from typing import Any

from lazyfs.core.errors import UsageError
from lazyfs.system.trusted_files import Untrusted, open_output

log = logging.getLogger(__name__)

MOST = 100_000
"""The largest number of lines held while the disk is slow; more are dropped and counted."""
PATIENCE = 5.0
"""Seconds for which an ending mount waits until a slow disk has taken the last lines."""


class Trace:
    """Appends to a file from a thread of its own: a thread that answers the kernel never waits for a disk."""

    def __init__(self, path: str) -> None:
        """Raises UsageError if the file cannot be written."""
        try:
            self._file = open(open_output(path), "a", encoding="utf-8")  # noqa: SIM115 - closed by the thread
        except Untrusted as error:
            raise UsageError(f"--trace {error}") from None
        except OSError as error:
            raise UsageError(f"--trace {path}: {error.strerror}") from None
        self._lines: queue.Queue[tuple[Any, ...] | None] = queue.Queue(MOST)
        self.dropped = 0
        self.problem = ""
        """The reason why writing has ended; empty while it goes on."""
        self._late = False
        """True if the end of the mount did not wait for all lines."""
        # daemon: a disk that never answers must not keep the process
        self._thread = threading.Thread(target=self._write, name="trace", daemon=True)
        self._thread.start()

    def line(
        self,
        operation: str,
        path: bytes,
        digest: bytes,
        size: int,
        source: str,
        seconds: float,
        file: bytes = b"",
    ) -> None:
        """Queues one line for the thread that writes; drops the line if too many wait. The parameters are the
        fields of the line, as the module's docstring has them. `file`: the SHA-256 of a file in a pack."""
        try:
            self._lines.put_nowait((time.time(), operation, path, digest, size, source, seconds, file))
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (event := self._lines.get()) is not None:
            now, operation, path, digest, size, source, seconds, file = event
            text = path.decode("utf-8", "surrogateescape")
            line = [round(now, 6), operation, text, digest.hex(), size, source, round(seconds * 1e6)]
            if file:
                line.append(file.hex())
            if self._late:
                break
            if self.problem:
                continue  # closing must not wait for room in the queue
            try:
                self._file.write(json.dumps(line) + "\n")
                if self._lines.empty():
                    self._file.flush()
            except OSError as error:
                self.problem = str(error)
                log.exception("the trace ends here")
        try:
            self._file.close()  # by the thread: closing waits for the disk too
        except OSError as error:
            self.problem = str(error)

    def close(self, seconds: float = PATIENCE) -> None:
        """Ends the thread; returns when everything is written, or after `seconds`: then the last lines are
        lost, and `problem` says so."""
        deadline = time.monotonic() + seconds
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            self._late = True
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._thread.is_alive():
            self.problem = f"its disk took nothing for {seconds:g} s; the last lines are lost"
            log.error("--trace: %s", self.problem)
