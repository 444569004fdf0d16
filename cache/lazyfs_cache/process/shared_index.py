"""Transactions of the index that processes share.

Concurrency protocol. `transaction` takes the index lock (threads first, then processes; with a time-out),
goes over to another generation of the index if another process has begun one, opens an LMDB transaction,
settles (`settling`), and hands the transaction to the caller. Names under data/ are made by `admission`,
which notes them in the journal, and removed only inside a transaction, so index and files can only disagree
when a process dies or the disk fails, and then `recovery` finds the keys in the journal.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from lazyfs_cache.files import journal
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.faults import DAMAGED, IndexFailure, MapFull
from lazyfs_cache.index.rows import Entry, Sums
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process.current_index import CurrentIndex
from lazyfs_cache.process.health import Health
from lazyfs_cache.process.index_generation import IndexGeneration
from lazyfs_cache.process.locks import ByteLocks, IndexLock
from lazyfs_cache.process.membership import Membership
from lazyfs_cache.process.settling import Settling

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds to wait for the index lock if the caller depends on it: opening, setting the limit."""

_GLANCE = 0.1
"""Seconds for which a look at the account waits for the index lock: a transaction takes 10 ms at most."""


class Account(NamedTuple):
    """The totals of the index, and the bytes that the totals leave out."""

    sums: Sums
    index_file: int
    charged: int
    """Bytes of everything that counts as occupied."""


class SharedIndex:
    """This process's access to the index. Thread-safe. A failing disk or index raises no exception here: it
    turns the cache off (`health`)."""

    def __init__(
        self,
        lock: IndexLock,
        membership: Membership,
        current: CurrentIndex,
        settling: Settling,
        files: ValueFiles,
        health: Health,
        *,
        timeout: float,
    ) -> None:
        """`timeout`: seconds that a transaction waits for the index lock. The caller holds that lock for this
        call."""
        self.files = files
        self.health = health
        self.timeout = timeout
        self._lock = lock
        self._membership = membership
        self._current = current
        self._settling = settling
        self._known = self._account(current.generation, current.generation.index.sums())

    @property
    def generation(self) -> IndexGeneration:
        """The generation that this process uses; inside a transaction, the transaction's."""
        return self._current.generation

    @property
    def owners(self) -> ByteLocks:
        """Locks on owner numbers: each living process holds its own."""
        return self._membership.owners

    def stale(self) -> bool:
        """Returns True if the generation of the index in use is no longer `generation`."""
        try:
            return self._lock.generation() != self.generation.number
        except OSError as error:
            self.health.fail(error)
            return True

    # -- changing ----------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, timeout: float | None = None) -> Iterator[Transaction | None]:
        """Opens a transaction, which is made whole or not at all (`Transaction.committed` tells which).
        Yields None if the index lock could not be taken within `timeout` seconds, or if the cache is off."""
        if self.health.off is not None:
            yield None
            return
        with self._lock.held(self.timeout if timeout is None else timeout) as held:
            if not held or self.health.off is not None:
                yield None
                return
            yielded = False
            try:
                generation = self._current.follow()
                with self._settling.transaction(generation) as transaction:
                    yielded = True
                    yield transaction
                self._known = self._account(generation, transaction.sums)
                self._current.fit_map(transaction.sums.limit)
            except DAMAGED as error:
                self.health.guard(functools.partial(self._current.replace, error))
            except MapFull:
                self.health.guard(self._current.enlarge)
            except (OSError, IndexFailure) as error:
                self.health.fail(error)
            if not yielded:
                yield None

    def settle(self) -> bool:
        """Makes a transaction that only settles. Returns False if it was not committed."""
        with self.transaction() as transaction:
            pass
        return transaction is not None and transaction.committed

    def carry_out(self, act: Callable[[Transaction], None]) -> bool:
        """Calls `act` in a transaction of its own, and again if the map had to grow for it. Returns True if
        the transaction was committed."""
        grown = True
        while grown and self.health.off is None:
            before = self.generation.index.map_size
            with self.transaction() as transaction:
                if transaction is not None:
                    act(transaction)
            if transaction is not None and transaction.committed:
                return True
            grown = (
                transaction is not None
                and self.health.off is None
                and self.generation.index.map_size > before
            )
        return False

    def set_limit(self, limit: int, check: Callable[[Sums], None]) -> bool:
        """Sets another limit for every process that has the cache open. Returns False if it was not set.
        `check` raises if the charges do not fit the limit."""
        with self.transaction(PATIENCE) as transaction:
            if transaction is not None:
                transaction.sums.limit = limit
                check(transaction.sums)
                self._membership.set_limit(limit)
        return transaction is not None and transaction.committed

    def fit_index(self) -> None:
        """Begins a new index if the present one is too large for a lowered limit."""
        with self._lock.held(self.timeout) as held:
            if held and self.health.off is None:
                self.health.guard(self._current.fit)

    # -- looking -----------------------------------------------------------------------------------------

    def account(self) -> Account:
        """Returns the present account; if the index lock cannot be taken at once, the account that this
        process saw last."""
        if self.generation.arrivals.waiting:
            with self.transaction(_GLANCE):  # enters the arrivals
                pass
        else:
            found = self._look(lambda generation: self._account(generation, generation.index.sums()), _GLANCE)
            self._known = found or self._known
        return self._known

    def processes(self) -> int:
        """Returns the number of processes that have the cache open, with this one; 1 if the index lock cannot
        be taken."""
        return self._look(lambda generation: generation.index.processes(), _GLANCE) or 1

    def _account(self, generation: IndexGeneration, sums: Sums) -> Account:
        return Account(sums, generation.index.used(), generation.limits.charged(sums))

    def _look(self, ask: Callable[[IndexGeneration], T], timeout: float) -> T | None:
        """Calls a reading method of the index, and returns its answer; None if the index lock cannot be
        taken, or the index fails."""
        if self.health.off is not None:
            return None
        with self._lock.held(timeout) as held:
            if not held or self.health.off is not None:
                return None
            try:
                return ask(self._current.follow())
            except DAMAGED as error:
                self.health.guard(functools.partial(self._current.replace, error))
            except (OSError, IndexFailure) as error:
                self.health.fail(error)
        return None

    def pages(self, count: int) -> Iterator[list[tuple[bytes, Entry]]]:
        """Yields every key with its entry in the index, in the order of keys and in lists of at most `count`.
        Ends early if the index lock cannot be taken, or the index fails."""
        after = b""
        while page := self._look(functools.partial(_page, after=after, count=count), self.timeout):
            yield page
            after = page[-1][0]

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Gives up this process's pins, after the values that have arrived were entered into the index. The
        last process to close marks the index as clean.

        Takes two transactions: the first enters the values that the journal lists, the second removes the
        journal. A process that does not get so far leaves a dead owner behind, and the next process cleans
        up.
        """
        self.generation.spares.discard_all()
        left = False
        if self.carry_out(lambda _: None) and not self.generation.arrivals.waiting:
            left = self.carry_out(self._leave)
        with self._lock.held(self.timeout) as held:
            if held and left and self.health.off is None:
                self.health.guard(lambda: self._membership.mark_clean(self.generation.index))
            self.health.end(self.health.off or "closed")
            if held:
                self._current.close()
                self._membership.leave()
        self.generation.journal.close()
        self._release()

    def _leave(self, transaction: Transaction) -> None:
        """Makes this process's last transaction: its held space and its pins are given up."""
        owner = self.generation.owner
        for label, key in transaction.pins_of(owner):
            transaction.unpin(key, owner, label)
        self.files.discard_tmp(journal.name(owner))
        transaction.drop_owner(owner)
        if transaction.sums.scanner == owner:
            transaction.sums.scanner = 0  # the next process goes on with the rebuild

    def abandon(self) -> None:
        """Leaves the open cache to the parent process. Called in a forked child."""
        self.health.end("opened before a fork: open it after")
        self._release()

    def _release(self) -> None:
        self._membership.close()
        self.files.close()
        self._lock.close()


def _page(generation: IndexGeneration, after: bytes, count: int) -> list[tuple[bytes, Entry]]:
    return generation.index.page(after, count)
