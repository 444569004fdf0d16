"""The disk usage of a directory, measured while other processes change it."""

import os
import threading
from pathlib import Path
from types import TracebackType


def disk_usage(root: Path) -> int:
    """Returns the bytes of all blocks of `root` and everything below it, as du counts them. Ignores files
    that vanish meanwhile.

    Each file is counted once, with the largest size seen. This matters because the cache reuses the files of
    evicted values under new names, so one scan may meet a file of 1 MiB under three names.
    """
    directories = 0
    files: dict[int, int] = {}
    pending = [os.fspath(root)]
    while pending:
        directory = pending.pop()
        try:
            directories += os.lstat(directory).st_blocks * 512
            with os.scandir(directory) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        found_file = entry.stat(follow_symlinks=False)
                        occupied = found_file.st_blocks * 512
                        files[found_file.st_ino] = max(occupied, files.get(found_file.st_ino, 0))
        except FileNotFoundError:
            continue
    return directories + sum(files.values())


class Sampler:
    """A thread that measures the usage of `root` over and over; `most` is the largest result."""

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
