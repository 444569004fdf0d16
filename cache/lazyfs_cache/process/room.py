"""Makes room: evicts values and changes the limit, in as many transactions as needed."""

from collections.abc import Callable

from lazyfs_cache.errors import CacheError
from lazyfs_cache.index.rows import Sums
from lazyfs_cache.policy.limits import Limits, Shortfall
from lazyfs_cache.process.agreement import check_limit
from lazyfs_cache.process.pin_room import check_pins_fit
from lazyfs_cache.process.shared_index import SharedIndex


class Room:
    """Frees space in one cache directory, and changes its limit."""

    def __init__(self, shared: SharedIndex) -> None:
        self._shared = shared

    def evict(self, shortfall: Shortfall) -> int:
        """Evicts values in one transaction, until the shortfall is met or the transaction may evict no more.
        Returns the number of evicted values."""
        with self._shared.transaction() as transaction:
            if transaction is None:
                return 0
            return self._shared.generation.evictor.evict(transaction, shortfall)

    def evict_bytes(self, wanted: int) -> int:
        """Evicts until `wanted` bytes are free or no more may be evicted. Returns the bytes freed."""
        before = self._charged()
        freed = 0
        while freed < wanted and self.evict(Shortfall(wanted - freed, 0)):
            freed = before - self._charged()
        return max(freed, 0)

    def shrink(self, ask: Callable[[Limits, Sums], Shortfall]) -> bool:
        """Evicts, one transaction at a time, until nothing more is to be evicted according to `ask`, which is
        called with the limits and the present totals. Returns False if no more values can be evicted, the
        index lock cannot be taken, or a transaction fails."""
        while True:
            gone = 0
            with self._shared.transaction() as transaction:
                if transaction is None:
                    return False
                generation = self._shared.generation
                shortfall = ask(generation.limits, transaction.sums)
                if shortfall.met:
                    return True
                gone = generation.evictor.evict(transaction, shortfall)
            if not gone or not transaction.committed:
                return False

    def make(self, amount: int) -> bool:
        """Evicts until there is room for `amount` more bytes. Returns False if no more values can be evicted,
        the index lock cannot be taken, or a transaction fails."""
        return self.shrink(lambda limits, sums: limits.shortfall(sums, amount))

    def fit(self) -> None:
        """Evicts down to a lowered limit, and begins a new index if the present one is too large for that
        limit."""
        self.shrink(Limits.over_capacity)
        self._shared.fit_index()

    def resize(self, limit: int) -> None:
        """Sets another limit for every process that has the cache open, and evicts down to it. Raises
        CacheError if it was not set."""
        root, shared = self._shared.files.root, self._shared
        check_limit(root, limit)
        if not shared.set_limit(limit, lambda sums: check_pins_fit(root, shared.generation.limits, sums)):
            raise CacheError(f"cache {root}: {shared.health.off or 'its lock was not got'}; the limit stays")
        self.make(0)
        shared.fit_index()

    def above_high(self) -> bool:
        """Returns True if the charges are above the high watermark, at which the upkeep thread begins to
        evict. Returns False during a rebuild, when the charges are not known, and if no transaction can be
        made."""
        with self._shared.transaction() as transaction:
            if transaction is None or transaction.sums.unscanned:
                return False
            return self._shared.generation.limits.above_high(transaction.sums)

    def give_back_idle(self) -> None:
        """Unlinks this process's spare files (those of evicted values, kept to be written over). If no value
        is on its way, gives up all bytes that the index holds for this process."""
        idle, generation = 0, self._shared.generation
        generation.spares.discard_all()
        with self._shared.transaction() as transaction:
            if transaction is not None:
                generation = self._shared.generation
                idle = generation.allowance.take_idle()
                if idle:
                    transaction.hold(generation.owner, -idle)
        if idle and not (transaction is not None and transaction.committed):
            generation.allowance.put_in(idle)

    def _charged(self) -> int:
        _, _, charged = self._shared.account()
        return charged
