"""The membership of this process in the group of processes that have the cache open: its presence, its lock
on an owner number, and the limit and policy that all of them have agreed on.

An index has a generation. The process that finds the index damaged sets it aside and begins the next
generation, while it holds the index lock. The other processes read the number of the generation from the
index lock's file at their next transaction, and open that index.
"""

import errno
import logging
import os

import msgspec

from lazyfs_cache.files import directory, layout, state_file
from lazyfs_cache.index.database import Index
from lazyfs_cache.process.agreement import agree
from lazyfs_cache.process.locks import ByteLocks, IndexLock, Presence

log = logging.getLogger("lazyfs_cache")


class Membership:
    """The membership of this process, made by `enter`. The caller holds the index lock for every call but
    `stale` and `close`."""

    def __init__(
        self,
        root: str,
        lock: IndexLock,
        presence: Presence,
        owners: ByteLocks,
        state: state_file.CacheState,
        *,
        first: bool,
    ) -> None:
        self.root = root
        self.owners = owners
        """Locks on owner numbers: each process that lives holds its own."""
        self.state = state
        """The content of the state file, as this process last read or wrote it: other processes may have
        begun another generation."""
        self.first = first
        """True if no other process had the cache open when this one entered."""
        self._lock = lock
        self._presence = presence

    def open_index(self) -> Index:
        """Opens the index in use, and returns it. Raises lmdb.Error, IndexDamaged."""
        return Index(directory.index_path(self.root, self.state.generation), self.state.map_size)

    def begin_generation(self, why: object, *, keep: bool = True) -> None:
        """Begins a new generation, whose index `open_index` makes, and sets aside the old index, which must
        be closed. `keep`: True if the old index is kept for an operator to look at.

        If this fails or the process is killed, either the old index is in use by all processes, or the new
        one: an index goes only once no process would open it again.
        """
        log.warning("cache %s: index set aside and being rebuilt: %s", self.root, why)
        old = self.state.generation
        state = state_file.load(self.root) or self.state  # another process may have set another limit
        state = msgspec.structs.replace(state, generation=max(old, state.generation) + 1)
        state_file.save(self.root, state)
        self._lock.set_generation(state.generation)
        self.state = state
        directory.set_index_aside(self.root, old, keep=keep)

    def stale(self) -> bool:
        """Returns True if another process has begun a new generation. Raises OSError."""
        return self._lock.generation() != self.state.generation

    def follow(self) -> None:
        """Goes over to the generation that another process has begun."""
        found = state_file.load(self.root)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layout.STATE)
        self.state = found
        directory.delete_strays(self.root, found.generation)

    def set_limit(self, limit: int) -> None:
        """Stores the limit outside the index, in case the index is lost."""
        self.state.limit = limit
        state_file.save(self.root, self.state)

    def mark_clean(self, index: Index) -> None:
        """Flushes the index and marks it as one to be trusted after a reboot, if no other process has the
        cache open."""
        if self._presence.alone():
            index.sync()
            self.state.limit = index.sums().limit
            self.state.clean = True
            state_file.save(self.root, self.state)

    def leave(self) -> None:
        """Ends this process's presence. The caller holds the index lock, so that a process that opens the
        cache meanwhile finds this one either still present or wholly gone."""
        self._presence.close()

    def close(self) -> None:
        """Releases all locks."""
        self._presence.close()
        self.owners.close()


def enter(root: str, lock: IndexLock, limit: int | None, policy: state_file.Policy | None) -> Membership:
    """Becomes one of the processes that have the cache open. `limit`, `policy`: those to set if no other
    process has it open; None for those last in force. The caller holds the index lock. Raises CacheError."""
    presence = Presence(os.path.join(root, layout.PRESENCE))
    try:
        first = presence.alone()
        state = agree(root, limit, policy, alone=first)
        lock.set_generation(state.generation)
        directory.delete_strays(root, state.generation)
        presence.share()
        owners = ByteLocks(os.path.join(root, layout.OWNERS))
    except BaseException:
        presence.close()
        raise
    return Membership(root, lock, presence, owners, state, first=first)
