"""The disk space that a directory takes, measured while other processes change it."""

import os
import threading
from pathlib import Path
from types import TracebackType


def disk_usage(root: Path) -> int:
    """Returns the bytes in blocks of `root` and everything below it, as du counts them; files that vanish
    meanwhile are not counted."""
    total = 0
    pending = [os.fspath(root)]
    while pending:
        directory = pending.pop()
        try:
            total += os.lstat(directory).st_blocks * 512
            with os.scandir(directory) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
    return total


class Sampler:
    """A thread that measures `root` over and over; `most` is the largest result."""

    def __init__(self, root: Path, pause: float = 0.02) -> None:
        self.root = root
        self.most = 0
        self.samples = 0
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self.most = max(self.most, disk_usage(self.root))
            self.samples += 1

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
