"""One process's place at a cache directory: its locks, its journal, and which index is in use.

An index has a generation. Whoever finds it damaged sets it aside and begins the next one, under the change
lock; the others see the new number in the lock's file at their next change, and follow.
"""

import errno
import logging
import os

from lazyfs_cache.errors import CacheError
from lazyfs_cache.files import journal, layout
from lazyfs_cache.files import pin_sets as pinsets
from lazyfs_cache.files import state_file as state
from lazyfs_cache.files.journal import Journal
from lazyfs_cache.files.value_files import Disk
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import DAMAGED
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.policy.limits import Space
from lazyfs_cache.process import agreement as opening
from lazyfs_cache.process import recovery
from lazyfs_cache.process.locks import ByteLocks, ChangeLock, Presence

log = logging.getLogger("lazyfs_cache")

PATIENCE = 10.0
"""Seconds to wait for the change lock when opening: another process may be opening or closing."""


class Seat:
    """Made when a cache is opened. All but `close` and `stale` is called under the change lock."""

    journal: Journal

    def __init__(self, root: str, limit: int | None, *, fsync: bool) -> None:
        opening.prepare(root, limit)
        self.root = root
        self.me = 0
        """This process's owner number in the index in use."""
        self.lock = ChangeLock(os.path.join(root, layout.LOCK))
        self._presence = Presence(os.path.join(root, layout.PRESENCE))
        self.owners = ByteLocks(os.path.join(root, layout.OWNERS))
        self.disk = Disk(root, fsync=fsync)
        self.state: state.State

    def take(self, limit: int | None, policy: state.Policy | None) -> tuple[Index, bool]:
        """The index in use, and whether this is the first process to use it. Raises CacheError."""
        first = self._presence.alone()
        self.state = opening.agree(self.root, limit, policy, alone=first)
        self.lock.set_generation(self.state.generation)
        self._presence.share()
        try:
            return self.open_index(), first
        except DAMAGED as error:
            self.set_aside(error)
            return self.open_index(), first

    def open_index(self) -> Index:
        return Index(opening.index_path(self.root, self.state.generation), self.state.map_size)

    def set_aside(self, why: object, *, keep: bool = True) -> None:
        """Keep a damaged index for whoever wants to know, and begin a new generation."""
        log.warning("cache %s: index set aside and being rebuilt: %s", self.root, why)
        opening.set_aside(self.root, self.state.generation, keep=keep)
        self.state = state.load(self.root) or self.state  # another process may have set another limit
        self.state.generation += 1
        state.save(self.root, self.state)
        self.lock.set_generation(self.state.generation)

    def stale(self) -> bool:
        """Whether another process has begun a new generation. Raises OSError."""
        return self.lock.generation() != self.state.generation

    def follow(self) -> None:
        """Agree to the generation another process has begun; then `open_index`."""
        found = state.load(self.root)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layout.STATE)
        self.state = found

    def join(self, change: Change, space: Space, *, first: bool) -> bool:
        """Become one of the index's owners, and bury the dead; a new index learns what lies in the directory.
        Returns whether there is a rebuild to do."""
        sums = change.sums
        unknown = False
        if not sums.owners:
            unknown = self.disk.any_data()
            sums.scan = 0 if unknown else recovery.SCANNED
        if first or not sums.limit:
            sums.limit = self.state.limit
            sums.sieve = self.state.policy == "sieve"
            recovery.pin_sets(change, dict(pinsets.load_all(self.root)))
            space.count_sets(change)
        self.me = change.add_owner(above=self.state.generation << 32)
        self.owners.take(self.me)
        recovery.bury(change, self.disk, self.owners, self.me)
        unknown = unknown or (first and self.disk.any_tmp())
        self.journal = space.journal = Journal(self.root, self.me)
        change.hold(self.me, self.disk.most(journal.SIZE))
        if unknown:
            # What lies there is not known: until it is, everything up to the limit counts as used.
            # One byte at least, also where directories alone exceed the limit: there is a rebuild to do.
            sums.unscanned = max(space.capacity(sums) - sums.stored - sums.folders - sums.sets, 1)
        if sums.unscanned and (unknown or first):
            sums.scanner = self.me
        return sums.unscanned > 0

    def rise(self) -> None:
        """Give up the journal and the owner number of a generation that is over."""
        self.owners.drop(self.me)
        self.journal.close()
        self.disk.discard_tmp(journal.name(self.me))

    def leave(self, change: Change) -> None:
        """The last change of this process: nothing is held for it, or pinned by it, any more."""
        for label, key in change.pins_of(self.me):
            change.unpin(key, self.me, label)
        self.disk.discard_tmp(journal.name(self.me))
        change.drop_owner(self.me)
        if change.sums.scanner == self.me:
            change.sums.scanner = 0  # whoever comes next takes the rebuild up

    def mark_clean(self, index: Index) -> None:
        """If nobody else has the cache open: the index is on the disk, and may be believed after a reboot."""
        if self._presence.alone():
            index.sync()
            self.state.limit = index.sums().limit
            self.state.clean = True
            state.save(self.root, self.state)

    def depart(self) -> None:
        """Under the change lock, so that a newcomer finds either this process here or nobody."""
        self._presence.close()

    def set_limit(self, limit: int) -> None:
        """Remember the limit for when the index is lost."""
        self.state.limit = limit
        state.save(self.root, self.state)

    def close(self) -> None:
        """Gives all locks back."""
        for part in (self._presence, self.owners, self.disk, self.lock):
            part.close()


def must_have(held: bool, root: str) -> None:
    """Raises CacheError unless the change lock was had."""
    if not held:
        raise CacheError(f"cache {root}: another process holds its lock; look for a stopped one")
