"""Watches the first start of each image on a mount, and makes a report of it.

Later starts are not reported: the kernel answers from its page cache what the first start has read, so the
mount sees only a part of a later start. Reads are noted from any thread, under the filesystem's lock. `due`
takes that lock itself.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from lazyfs.core.digest import Digest
from lazyfs.core.start_reports.report import (
    MOST_FILES,
    MOST_OBJECTS,
    VERSION,
    StartReport,
    TouchedFile,
    is_inner,
)
from lazyfs.prefetch.prefetcher import is_executable
from lazyfs.vfs.content import ReadPlan

UNDER_WAY: Final = 8
"""The largest number of starts that are watched at a time; further starts are not reported."""
REMEMBERED: Final = 1 << 14
"""The largest number of images whose first start is remembered, so that no later start of them is watched."""


class _Start:
    def __init__(self, repository: str, began: float) -> None:
        self.repository = repository
        self.began = began
        self.program = b""
        self.files: dict[bytes, dict[Digest, None]] = {}
        self.objects = 0

    def add(self, path: bytes, read: ReadPlan) -> None:
        if self.too_large:  # no report: a search through the whole image would only fill the memory
            return
        if not self.program and is_executable(read.entry):
            self.program = path
        of_file = self.files.setdefault(path, {})
        small = read.small_file
        for digest in [small.digest] if small else [part.ref.digest for part in read.slices]:
            if digest not in of_file:
                of_file[digest] = None
                self.objects += 1

    @property
    def too_large(self) -> bool:
        return len(self.files) > MOST_FILES or self.objects > MOST_OBJECTS


class WatchedStarts:
    """The starts of one mount. Implements `prefetch.prefetcher.ReadWatcher` for each repository (`of`)."""

    def __init__(self, lock: threading.Lock, clock: Callable[[], float], seconds: float) -> None:
        """`lock`: the filesystem's lock; callers hold it, except for `due`. `seconds`: the length of a
        start."""
        self._lock = lock
        self._clock = clock
        self._seconds = seconds
        self._under_way: dict[Digest, _Start] = {}
        self._seen: OrderedDict[Digest, None] = OrderedDict()

    def of(self, repository: str) -> "RepositoryStarts":
        """Returns the observer of one repository's reads. `repository`: its name in its signed metadata."""
        return RepositoryStarts(self, repository)

    def waits_for(self, image: Digest) -> bool:
        """Returns True if a read in this image is worth a call of `read`."""
        return image not in self._seen or image in self._under_way

    def read(self, repository: str, image: Digest, path: bytes, read: ReadPlan) -> None:
        """Notes a read of a file at a path below an image's root."""
        start = self._under_way.get(image)
        if start is None:
            if image in self._seen:
                return
            self._see(image)
            if len(self._under_way) >= UNDER_WAY:
                return
            start = self._under_way[image] = _Start(repository, self._clock())
        if read.slices and is_inner(path):
            start.add(path, read)

    def due(self, now: float) -> list[StartReport]:
        """Returns the reports of the starts that are over, and forgets these starts. Makes no report if no
        executable was read, since then somebody has only looked into the image, nor if more was read than a
        report may hold."""
        with self._lock:
            over = {
                image: start for image, start in self._under_way.items() if now - start.began >= self._seconds
            }
            for image in over:
                del self._under_way[image]
        return [
            StartReport(VERSION, start.repository, image, start.program, _files(start))
            for image, start in over.items()
            if start.program and not start.too_large
        ]

    def _see(self, image: Digest) -> None:
        self._seen[image] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)


class RepositoryStarts:
    """Watches the starts of one repository's images."""

    def __init__(self, starts: WatchedStarts, repository: str) -> None:
        self._starts = starts
        self._repository = repository

    def waits_for(self, image: Digest) -> bool:
        """Returns True if a read in the image with this top catalog is worth a call of `read`."""
        return self._starts.waits_for(image)

    def read(self, image: Digest, path: bytes, read: ReadPlan) -> None:
        """Notes a read of the file at `path` below the image's root."""
        self._starts.read(self._repository, image, path, read)


def _files(start: _Start) -> tuple[TouchedFile, ...]:
    return tuple(TouchedFile(path, tuple(objects)) for path, objects in start.files.items() if objects)
