"""Readers of a mount during an outage: some read cached files, others read files that are not cached."""

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Outcome:
    """The results of all readers of one kind so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.wrong: list[str] = []
        self.errors: dict[str, int] = {}
        """`CALL: errno's name` -> number of errors."""
        self.slowest = 0.0
        """Duration of the slowest call in seconds."""
        self.slowest_call = ""

    def call(self, name: str, run: Callable[[], object]) -> object:
        """Makes one system call, and records its duration and error. Returns the call's value, or None if it
        failed."""
        began, failure, value = time.monotonic(), "", None
        try:
            value = run()
        except OSError as error:
            if error.errno != errno.ENODATA:  # the answer about an attribute that is not there
                failure = f"{name}: {errno.errorcode[error.errno or errno.EIO]}"
        seconds = time.monotonic() - began
        with self._lock:
            self.calls += 1
            if failure:
                self.errors[failure] = self.errors.get(failure, 0) + 1
            if seconds > self.slowest:
                self.slowest, self.slowest_call = seconds, name
        return value

    def check(self, path: Path, right: bool) -> None:
        """Records the file at `path` as wrong unless `right`."""
        if not right:
            with self._lock:
                self.wrong.append(str(path))


class Readers:
    """Threads that read cached files, and files that nobody has read before. They run within `running`."""

    def __init__(self, warm: dict[Path, bytes], cold: dict[Path, bytes]) -> None:
        """`warm` and `cold`: path -> content. Each cold file lies in its own directory, whose catalog must be
        fetched too."""
        self.warm, self.cold = Outcome(), Outcome()
        self._warm, self._cold = warm, list(cold.items())
        self._next = itertools.count()
        self._stopping = threading.Event()

    @contextmanager
    def running(self, warm: int, cold: int) -> Iterator[None]:
        """Runs `warm` readers of cached files and `cold` readers of other files during the block; waits for
        their end after it."""
        kinds = [self._read_warm] * warm + [self._read_cold] * cold
        threads = [
            threading.Thread(target=run, args=(index,), daemon=True) for index, run in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(60)
            assert not [thread for thread in threads if thread.is_alive()], "readers that hang"

    def _read_warm(self, index: int) -> None:
        files = list(self._warm.items())
        for turn in itertools.count(index):
            if self._stopping.is_set():
                return
            path, content = files[turn % len(files)]
            found = self.warm.call("read", lambda path=path: read(path))  # type: ignore[misc]
            self.warm.check(path, found is None or found == content)
            self._stopping.wait(0.02)

    def _read_cold(self, _: int) -> None:
        while not self._stopping.is_set():
            self.ask(*self._cold[next(self._next) % len(self._cold)])
            self._stopping.wait(0.05)

    def ask(self, path: Path, content: bytes) -> bool:
        """Lists the file's directory, stats and reads the file, and asks for an attribute. Returns True if
        the read succeeded."""
        self.cold.call("readdir", lambda: os.listdir(path.parent))
        self.cold.call("stat", lambda: os.stat(path))
        self.cold.call("getxattr", lambda: os.getxattr(path, "user.none"))
        found = self.cold.call("read", lambda: read(path))
        self.cold.check(path, found is None or found == content)
        return found is not None


def read(path: Path) -> bytes:
    """Returns a file's content, and drops it from the page cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        found = b""
        while part := os.read(file, 1 << 20):
            found += part
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return found
    finally:
        os.close(file)
