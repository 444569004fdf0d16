"""Settling: the work of a transaction before its caller's own.

Settling enters the values that have arrived since the last transaction, writes the uses that readers noted,
and removes suspects (keys whose values are damaged or half admitted). `recovery` cleans up after dead
processes, when the cache is opened and every half minute.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs_cache.files.layout import directory_of
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.sizes import uses_per_transaction
from lazyfs_cache.process.arrivals import Arrived
from lazyfs_cache.process.index_generation import IndexGeneration
from lazyfs_cache.process.recent_uses import RecentUses
from lazyfs_cache.process.recovery import measure_directory, reconcile
from lazyfs_cache.process.suspects import Suspects

SUSPECTS_PER_TRANSACTION = 16
"""The largest number of suspects that one transaction removes: the journal, and the space that is kept free
for a transaction, must suffice for other removals too."""


class Settling:
    """Makes transactions in which everything is settled. The caller holds the index lock for every call."""

    def __init__(self, files: ValueFiles, uses: RecentUses, suspects: Suspects) -> None:
        self._files = files
        self._uses = uses
        self._suspects = suspects

    @contextmanager
    def transaction(self, generation: IndexGeneration) -> Iterator[Transaction]:
        """Opens a transaction in which everything is settled. If the block raises, the transaction is
        dropped, and the next one settles everything again except the uses, which are lost. Raises OSError,
        lmdb.Error, IndexDamaged."""
        generation.journal.begin()
        suspects, arrived = self._suspects.take(), generation.arrivals.take()
        try:
            with generation.index.transaction() as transaction:
                self._settle(transaction, generation, arrived, suspects)
                yield transaction
        except BaseException:
            generation.pending.dropped()
            self._suspects.put_back(suspects)
            generation.arrivals.put_back(arrived)
            raise
        generation.pending.committed()
        generation.allowance.spend(sum(value.held for value in arrived))
        for value in arrived:
            generation.arrivals.slots.free(value.slot)

    def _settle(
        self,
        transaction: Transaction,
        generation: IndexGeneration,
        arrived: list[Arrived],
        suspects: list[bytes],
    ) -> None:
        new = {value.key: value for value in arrived if transaction.entry(value.key) is None}
        for value in arrived:
            if value.key not in new:
                self._correct(transaction, value)
        used = self._uses.take(uses_per_transaction(transaction.sums.limit))
        for key in new.keys() - used:
            self._enter(transaction, new[key])
        for key in used:
            if key in new:
                self._enter(transaction, new[key])
            else:
                transaction.touch(key)
        if arrived:
            transaction.hold(generation.owner, -sum(value.held for value in arrived))
        noted = generation.journal.removing(suspects[:SUSPECTS_PER_TRANSACTION])
        for key in suspects[:noted]:
            self._files.remove(key)
            reconcile(transaction, self._files, key)
        self._suspects.put_back(suspects[noted:])

    def _enter(self, transaction: Transaction, value: Arrived) -> None:
        status = self._files.status(value.key)
        if status is not None:  # another process may have evicted it already
            # The file may be another process's: both have put the value.
            charge = max(value.occupied, status.st_blocks * 512)
            transaction.insert(value.key, value.size, charge, None, value.tenant)
            measure_directory(transaction, self._files, directory_of(value.key))

    def _correct(self, transaction: Transaction, value: Arrived) -> None:
        """Raises the charge of a value that another process has entered: this process's file may have
        replaced the other's, and may be larger."""
        status = self._files.status(value.key)
        if status is not None:
            transaction.charge_at_least(value.key, status.st_blocks * 512)
