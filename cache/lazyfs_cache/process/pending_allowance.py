"""Space that the transaction under way adds to the space held for its process. Spare files of evicted values
may occupy some of it.

It becomes part of the allowance when the transaction is committed; until then it is kept here.
"""

import threading

from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.allowance import SpaceAllowance
from lazyfs_cache.policy.eviction import Queued
from lazyfs_cache.policy.limits import Limits
from lazyfs_cache.policy.sizes import allowance as allowance_size
from lazyfs_cache.process.evictor import Evictor
from lazyfs_cache.process.spare_files import SpareFiles


class PendingAllowance:
    """The added space of one process in one generation of the index. The caller holds the index lock for
    every call. `wake`: the event that wakes the upkeep thread, set when the charges pass the high
    watermark."""

    def __init__(
        self,
        owner: int,
        limits: Limits,
        evictor: Evictor,
        allowance: SpaceAllowance,
        spares: SpareFiles,
        wake: threading.Event,
    ) -> None:
        self._owner = owner
        self._limits = limits
        self._evictor = evictor
        self._allowance = allowance
        self._spares = spares
        self._wake = wake
        self._amount = 0
        self._kept: list[tuple[int, int]] = []  # (bytes occupied, slot)

    def fill(self, transaction: Transaction, least: int) -> bool:
        """Adds `least` bytes to the space that the index holds for this process, and the bytes that the
        allowance needs to regain its usual size; evicts values to make room for them. Adds only `least` if
        there is no room for all.

        Returns True if a reservation that found too little space may succeed now: enough bytes are held, or
        values were evicted.
        """
        sums = transaction.sums
        wanted = least + self._allowance.missing(allowance_size(sums.limit))
        if not wanted:
            return True
        shortfall = self._limits.shortfall(sums, wanted)
        evicted = 0 if shortfall.met else self._evictor.evict(transaction, shortfall, self._keep_file)
        kept = sum(occupied for occupied, _ in self._kept)
        if kept:
            transaction.hold(self._owner, kept)
        for amount in (wanted - kept, least - kept):
            if amount <= 0:
                return True
            if self._limits.shortfall(sums, amount).met:
                transaction.hold(self._owner, amount)
                self._amount = amount
                if self._limits.above_high(sums):
                    self._wake.set()
                return True
        return evicted > 0

    def _keep_file(self, value: Queued) -> bool:
        slot = self._spares.take(value)
        if slot is not None:
            self._kept.append((value.charge, slot))
        return slot is not None

    def committed(self) -> None:
        """Adds the space to the allowance."""
        self._allowance.put_in(self._amount)
        self._allowance.add_spares(self._kept)
        self._amount, self._kept = 0, []

    def dropped(self) -> None:
        """Forgets the space, and unlinks the spare files: the transaction was not committed."""
        self._spares.discard(slot for _, slot in self._kept)
        self._amount, self._kept = 0, []
