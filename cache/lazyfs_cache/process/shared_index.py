"""The account and the lock that guards it: one process's part in a cache directory.

Concurrency protocol of changes. `change` takes the change lock (threads first, then processes; with a
time-out), looks whether another process has begun a new generation of the index, opens an LMDB transaction,
settles what readers left (uses, damaged values, ended intents), and hands the transaction to the caller.
Names under data/ are made and removed only inside a change, so index and files can only part when a process
dies or the disk fails, and `recovery` knows where to look then.
"""

import errno
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import lmdb

from lazyfs_cache.errors import CacheError
from lazyfs_cache.files.state_file import Policy
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import DAMAGED, Entry, Sums
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.policy.allowance import Arrived, Purse
from lazyfs_cache.policy.limits import MIN_LIMIT, Need, Space, uses_per_change
from lazyfs_cache.process import recovery
from lazyfs_cache.process.current_index import Reign
from lazyfs_cache.process.membership import PATIENCE, Seat, log, must_have
from lazyfs_cache.process.pending_allowance import Grant
from lazyfs_cache.process.recent_uses import Uses

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_HARMLESS = FULL | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN}
"""Errors of one call that say nothing against the disk."""


DAMAGED_PER_CHANGE = 16
"""Values found damaged that one change removes: it has to have room in the journal for others, and pages."""

_GLANCE = 0.1
"""Seconds a look at the account waits for the lock: a change takes 10 ms at most."""


class Ledger:
    """Raises CacheError when it cannot be opened; after that a failing disk or index raises nothing."""

    def __init__(
        self,
        root: str,
        limit: int | None,
        *,
        keep_free: int,
        fsync: bool,
        lock_timeout: float,
        policy: Policy | None,
    ) -> None:
        self.root = root
        self.timeout = lock_timeout
        self.off: str | None = None
        """Why the cache is off; None while it is on."""
        self.wake = threading.Event()
        self.uses = Uses(self.wake)
        self.purse = Purse()
        self.seat = Seat(root, limit, fsync=fsync)
        self.disk = self.seat.disk
        try:
            with self.seat.lock.held(max(lock_timeout, PATIENCE)) as held:
                must_have(held, root)
                index, first = self.seat.take(limit, policy)
                self.space = Space(root, self.disk, index, keep_free=keep_free)
                self.grant = Grant(self.seat, self.space, self.purse, self.wake, self.fail)
                self._reign = Reign(
                    index, self.seat, self.space, self.grant, self.purse, self.uses, self.wake
                )
                try:
                    self._reign.begin(first=first, limit=limit)
                    self._known = self._account(self._reign.index.sums())
                except BaseException:
                    self._reign.index.close()  # LMDB opens no environment twice in one process
                    raise
        except BaseException:
            self.seat.close()
            raise

    def stale(self) -> bool:
        """Whether what the purse holds is of an index that is no more in use."""
        try:
            return self.seat.stale() or self.purse.generation != self.seat.state.generation
        except OSError as error:
            self.fail(error)
            return True

    # -- changing ----------------------------------------------------------------------------------------

    @contextmanager
    def change(self, timeout: float | None = None) -> Iterator[Change | None]:
        """One change of the account, made whole or not at all (`Change.committed` says which). Yields None if
        the change lock was not had within `timeout` seconds or the cache is off."""
        if self.off is not None:
            yield None
            return
        with self.seat.lock.held(self.timeout if timeout is None else timeout) as held:
            if not held or self.off is not None:
                yield None
                return
            damaged: list[bytes] = []
            arrived: list[Arrived] = []
            yielded = done = False
            try:
                self._reign.follow()
                self.grant.begin()
                self.seat.journal.begin()
                damaged, arrived = self.uses.take_damaged(), self.purse.take_arrived()
                with self._reign.index.change() as change:
                    self._settle(change, arrived, damaged)
                    yielded = True
                    yield change
                done = True
                self._settled(arrived)
                self._known = self._account(change.sums)
                self._reign.fit_map(change.sums.limit)
            except DAMAGED as error:
                self.purse.return_arrived(arrived)
                arrived = []
                self._guarded(lambda error=error: self._reign.replace(error))  # type: ignore[misc]
            except lmdb.MapFullError:
                self._guarded(self._reign.enlarge)
            except (OSError, lmdb.Error) as error:
                self.fail(error)
            finally:
                self.grant.end()
                if not done:
                    self.uses.return_damaged(damaged)
                    self.purse.return_arrived(arrived)
            if not yielded:
                yield None

    def carry_out(self, what: Callable[[Change], None]) -> bool:
        """Does it in a change of its own, again if the map had to grow for it; whether it is committed."""
        grown = True
        while grown and self.off is None:
            before = self._reign.index.map_size
            with self.change() as change:
                if change is not None:
                    what(change)
            if change is not None and change.committed:
                return True
            grown = change is not None and self.off is None and self._reign.index.map_size > before
        return False

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, CacheError, *DAMAGED, lmdb.Error) as error:
            self.turn_off(str(error))

    def _settle(self, change: Change, arrived: list[Arrived], damaged: list[bytes]) -> None:
        new = {value.key: value for value in arrived if change.entry(value.key) is None}
        touched = self.uses.take_used(uses_per_change(change.sums.limit))
        for key in new.keys() - touched:
            self._enter(change, new[key])
        for key in touched:
            if key in new:
                self._enter(change, new[key])
            else:
                change.touch(key)
        if arrived:
            change.hold(self.seat.me, -sum(value.held for value in arrived))
        noted = self.seat.journal.removing(damaged[:DAMAGED_PER_CHANGE])
        for key in damaged[:noted]:
            self.disk.remove(key)
            recovery.reconcile(change, self.disk, key)
        self.uses.return_damaged(damaged[noted:])

    def _enter(self, change: Change, value: Arrived) -> None:
        if self.disk.length(value.key) is not None:  # it may have been evicted by another process already
            change.insert(value.key, value.size, value.occupied)
            self.space.count_folder(change, value.key)

    def _settled(self, arrived: list[Arrived]) -> None:
        """The change is committed."""
        self.grant.committed()
        self.purse.spend(sum(value.held for value in arrived))
        for value in arrived:
            self.purse.free_slot(value.slot)

    def empty_purse(self) -> None:
        """Give what is held and not promised back to the index, once nothing is under way."""
        idle, generation = 0, self.purse.generation
        self._empty_pool()
        with self.change() as change:
            if change is not None and (idle := self.purse.take_idle()):
                change.hold(self.seat.me, -idle)
        if idle and not (change is not None and change.committed):
            self.purse.put_in(idle, generation)

    def _empty_pool(self) -> None:
        generation = self.purse.generation
        slots, amount = self.purse.drain()
        self.grant.discard(slots)
        self.purse.give_back(amount, generation)

    def shrink(self, enough: Callable[[Change], Need]) -> bool:
        """Evict, change after change, until nothing is needed any more; False if nothing more can go, the
        lock is not had, or a change fails."""
        while True:
            gone = 0
            with self.change() as change:
                if change is None:
                    return False
                need = enough(change)
                if need.met:
                    return True
                gone = self.space.evict(change, need)
            if not gone or not change.committed:
                return False

    def remove_damaged(self, key: bytes) -> bool:
        """See to it that `key`, if it was found damaged, is gone; False if the lock was not had."""
        while self.uses.must_go(key):
            with self.change() as change:
                pass
            if change is None or not change.committed:
                return False
        return True

    def evict(self, need: Need) -> int:
        """Evict what one change may, towards `need`; returns how many values went."""
        with self.change() as change:
            return 0 if change is None else self.space.evict(change, need)

    def resize(self, limit: int) -> None:
        """Another limit, for every process that has the cache open. Raises CacheError if it was not set."""
        if limit < MIN_LIMIT:
            raise CacheError(f"cache {self.root}: limit {limit} is too small; give at least {MIN_LIMIT}")
        with self.change(PATIENCE) as change:
            if change is not None:
                change.sums.limit = limit
                self._reign.bear_pins(change, limit)
                self.seat.set_limit(limit)
        if change is None or not change.committed:
            raise CacheError(f"cache {self.root}: {self.off or 'its lock was not had'}; the limit stays")

    def fit_index(self) -> None:
        """After the limit was lowered: see `Reign.fit`."""
        with self.seat.lock.held(self.timeout) as held:
            if held and self.off is None:
                self._guarded(self._reign.fit)

    def sums(self) -> tuple[Sums, int, int]:
        """The account, the bytes of the index's file, and all that is charged; as this process last saw them
        if the lock is not had at once."""
        if self.purse.waiting:
            with self.change(_GLANCE):  # enters what waits
                pass
        else:
            self._known = self._look(lambda index: self._account(index.sums()), _GLANCE) or self._known
        return self._known

    def _account(self, sums: Sums) -> tuple[Sums, int, int]:
        return sums, self._reign.index.used(), self.space.charged(sums)

    def _look(self, what: Callable[[Index], T], timeout: float) -> T | None:
        """The answer of a reading method of the index; None if the lock is not had, or the index fails."""
        if self.off is not None:
            return None
        with self.seat.lock.held(timeout) as held:
            if not held or self.off is not None:
                return None
            try:
                self._reign.follow()
                return what(self._reign.index)
            except DAMAGED as error:
                self._guarded(lambda error=error: self._reign.replace(error))  # type: ignore[misc]
            except (OSError, lmdb.Error) as error:
                self.fail(error)
        return None

    def pages(self, count: int) -> Iterator[list[tuple[bytes, Entry]]]:
        """Every entry, `count` at a time, in the order of keys."""
        after = b""
        while page := self._look(functools.partial(Index.page, after=after, count=count), self.timeout):
            yield page
            after = page[-1][0]

    # -- failing -----------------------------------------------------------------------------------------

    def fail(self, error: OSError | lmdb.Error) -> None:
        """A call failed: full disks and full tables pass, anything else turns the cache off."""
        if isinstance(error, (lmdb.DiskError, lmdb.MapFullError)):  # a full disk, a full map
            return
        if isinstance(error, OSError) and error.errno in _HARMLESS:
            return
        self.turn_off(str(error))

    def turn_off(self, why: str) -> None:
        if self.off is None:
            self.off = why
            log.warning("cache %s: turned off, reads go on without it: %s", self.root, why)

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is outstanding, give up this process's pins; the last to close leaves a clean mark.

        In two changes: the journal goes only after the first has entered what it names. Whoever does not get
        so far leaves an owner behind that is dead, for the next process to bury.
        """
        self._empty_pool()
        left = False
        if self.carry_out(lambda _: None) and not self.purse.waiting:
            left = self.carry_out(self.seat.leave)
        with self.seat.lock.held(self.timeout) as held:
            if held and left and self.off is None:
                self._guarded(lambda: self.seat.mark_clean(self._reign.index))
            self.off = self.off or "closed"
            if held:
                self._reign.index.close()
                self.seat.depart()
        self.seat.journal.close()
        self.seat.close()

    def abandon(self) -> None:
        """This is a forked child: the cache stays its parent's, and so do the locks."""
        self.off = "opened before a fork: open it after"
        self.seat.close()
