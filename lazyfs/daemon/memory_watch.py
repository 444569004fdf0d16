"""Keeps the daemon's memory within its own limit and its control group's: drops parsed catalogs and the
answers that are kept for the kernel, before the kernel would kill the daemon."""

import ctypes
import logging
from collections.abc import Callable
from contextlib import suppress

from lazyfs.daemon.memory_budget import Budget, budget, kept_part
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import Session
from lazyfs.system.memory_use import Group, bytes_in, own_bytes, tightest_group

INTERVAL = 0.5
"""Seconds between two looks at the memory, each of which takes 0.1 ms."""
GROUP_INTERVAL = 20
"""The number of looks after which the control group's limit is read again: an operator may change it."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of mallopt, from glibc's malloc.h."""

log = logging.getLogger(__name__)


class MemoryWatch:
    """Watches the memory of one daemon."""

    def __init__(self, limit: int, filesystem: Filesystem) -> None:
        """`limit`: bytes that the daemon may use by its settings; its control group may allow less."""
        self._filesystem = filesystem
        self._setting = limit
        self._kept = 1.0
        self.limit = limit
        """The number of bytes that the daemon may use now: its setting, or less if its control group allows
        less."""
        self.given_back = 0
        """The number of times that kept answers and catalogs were dropped."""
        self._group: Group | None = None
        self._looks = 0
        self._session: Session | None = None
        self._trim = _allocator()
        self._find_group()
        self._apply()

    async def run(self, session: Session) -> None:
        """Looks at the memory again and again, until cancelled."""
        import trio  # not above: a mount answers before the event loop is loaded

        self._session = session
        self._apply()
        while True:
            await trio.sleep(INTERVAL)
            try:
                self.look()
            except Exception:  # only this look fails, not the mount
                log.exception("looking at the memory")

    def look(self) -> None:
        """Drops kept answers and catalogs if memory is short. Raises the limits on them again once memory is
        no longer short."""
        self._looks += 1
        if self._looks % GROUP_INTERVAL == 0:
            self._find_group()
        kept = kept_part(self._kept, self._used())
        if kept < self._kept:
            self.given_back += 1
            if self._kept == 1.0:
                log.info("memory is short (%d MiB): keeping fewer catalogs and answers", self.limit >> 20)
        elif kept == self._kept and kept:
            return
        self._kept = kept
        self._apply()
        if kept < 1.0:
            self._trim()

    def _used(self) -> float:
        """Returns the daemon's memory divided by its own limit, or its control group's memory divided by the
        group's limit, whichever is larger."""
        used = own_bytes() / self._setting
        if self._group is not None:
            used = max(used, bytes_in(self._group) / self._group.limit)
        return used

    def _find_group(self) -> None:
        with suppress(OSError):  # without /proc
            self._group = tightest_group()
        self.limit = min(self._setting, self._group.limit) if self._group is not None else self._setting

    def _apply(self) -> None:
        shares: Budget = budget(self.limit, self._kept)
        tree = self._filesystem.tree
        with self._filesystem.lock:
            tree.parsed.resize(shares.catalogs, shares.chunk_lists)
            tree.shared_files.most = shares.shared_files
            if self._session is not None:
                self._session.bound_answers(shares.answers)
        self._filesystem.allowance.most = shares.under_way


def _allocator() -> Callable[[], object]:
    """Sets up the C library's allocator: a block of 2 MiB or more goes back to the kernel as soon as it is
    freed, smaller ones once 8 MiB of them lie together, and all threads share two arenas. Returns a function
    that returns the other freed memory to the kernel."""
    libc = ctypes.CDLL(None)
    try:
        libc.mallopt(_ARENA_MAX, 2)
        # Reads have up to 1 MiB. When blocks of theirs went back at once, the start of a large image cost
        # 70,000 page faults more, a fifth of the daemon's processor time.
        libc.mallopt(_MMAP_THRESHOLD, 2 << 20)
        libc.mallopt(_TRIM_THRESHOLD, 8 << 20)
        trim = libc.malloc_trim
    except AttributeError:  # not glibc
        return lambda: None
    return lambda: trim(0)
