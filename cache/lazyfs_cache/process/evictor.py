"""Eviction within a transaction: the files of the chosen values go, then their charges."""

from collections.abc import Callable

from lazyfs_cache.files.journal import Journal
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.eviction import Queued, choose
from lazyfs_cache.policy.limits import Shortfall
from lazyfs_cache.policy.sizes import passes_per_transaction


def _keep_none(value: Queued) -> bool:  # noqa: ARG001
    return False


class Evictor:
    """Evicts for one process in one generation of the index."""

    def __init__(self, journal: Journal, files: ValueFiles) -> None:
        self._journal = journal
        self._files = files

    def evict(
        self,
        transaction: Transaction,
        shortfall: Shortfall,
        keep_file: Callable[[Queued], bool] = _keep_none,
    ) -> int:
        """Evicts the next values until the shortfall is met, or until as many are evicted as one transaction
        may evict. Returns their number. `keep_file` may take a value's file, and returns True if it did;
        otherwise the file is unlinked.

        Files go first, then their charges, so that no occupied byte is ever counted as free. Raises OSError.
        """
        order = transaction.next_out(passes_per_transaction(transaction.sums.limit))
        chosen = choose(order, shortfall)
        noted = self._journal.removing(value.key for value in chosen)
        for value in chosen[:noted]:
            if not keep_file(value):
                self._files.remove(value.key)
        transaction.evict(chosen[:noted])
        transaction.sums.evictions += noted
        return noted
