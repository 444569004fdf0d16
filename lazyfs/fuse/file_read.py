"""One READ: planned under the lock, answered from the local disk without it, continued after a miss."""

import time

from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs import content
from lazyfs.vfs.missing_objects import Fetched


class FileRead:
    """A `filesystem.Call` that keeps its plan: after a miss it goes on with the same plan.

    The lock is held while the plan is made, not while bytes are read from the local disk.
    """

    def __init__(self, filesystem: Filesystem, number: int, offset: int, length: int) -> None:
        """Prepares the read of bytes [offset, offset + length) of the file with this inode number."""
        self._fs = filesystem
        self._number = number
        self._offset = offset
        self._length = length
        self._plan: content.ReadPlan | None = None

    def __call__(self, fetched: Fetched) -> list[bytes]:
        """Returns the bytes, cut at the file's end, in pieces to be joined. Raises Need or OSError."""
        started = time.monotonic()
        fs = self._fs
        plan = self._plan
        if plan is None:
            with fs.lock:
                plan = content.plan_read(fs.tree, self._number, self._offset, self._length, fetched)
                repository = fs.repository(plan.repository)
                repository.prefetching.on_read(plan)
            self._plan = plan
        else:
            repository = fs.repository(plan.repository)
        pieces = content.pieces(plan, repository.objects, fetched)
        if fetched:
            with fs.lock:
                repository.prefetching.on_arrival(plan, fetched)
        if fs.trace is not None:
            self._trace(plan, fetched, time.monotonic() - started)
        return pieces

    def _trace(self, plan: content.ReadPlan, fetched: Fetched, seconds: float) -> None:
        trace = self._fs.trace
        assert trace is not None
        with self._fs.lock:
            path = self._fs.tree.path_of(plan.number, fetched)
        file = plan.entry.content if plan.entry.pack_number >= 0 else b""
        for ref, _, size in plan.slices:
            source = "network" if ref.digest in fetched or (file and fetched) else "cache"
            trace.line("read", path, ref.digest, size, source, seconds, file)
