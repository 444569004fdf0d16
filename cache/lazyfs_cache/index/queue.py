"""The table of values that may be evicted, by tenants and ticks, within one transaction. A tick is a time in
microseconds, which no two values of a tenant share."""

from collections.abc import Iterator

import lmdb

from lazyfs_cache.index.faults import IndexDamaged
from lazyfs_cache.index.rows import LARGEST, PLACE, U64, Sums
from lazyfs_cache.index.tables import Tables
from lazyfs_cache.policy.eviction import Queued


class Queue:
    """The rows of the queue. `Transaction` keeps the entries in step with them."""

    def __init__(self, tables: Tables, txn: "lmdb.Transaction[bytes]", sums: Sums) -> None:
        self._table = tables.queue
        self._txn = txn
        self._sums = sums
        self._free_after: dict[tuple[int, int], int] = {}
        """For a (tenant, tick) that is taken, the later tick from which on to search for a free one. This
        saves time if many values ask for the same tick: files of one age are not rare."""
        self._last_tenant: int | None = None
        """The tenant of the table's last row, or a later tenant; None if it was not looked up yet."""

    def add(self, tenant: int, tick: int, charge: int, key: bytes, *, newest: bool = False) -> int:
        """Puts a value into the queue. Returns the tick that the value got: `tick`, or the next one that is
        free if another value of the tenant has that tick. `newest`: the caller expects no later tick of the
        tenant in the queue, so the row is appended where possible; if the tick is taken, the value goes
        behind the tenant's last."""
        row = U64.pack(charge) + key
        wanted, tick = tick, self._free_after.get((tenant, tick), tick)
        append = newest and tenant >= self._tenant_at_end()
        while not self._txn.put(
            PLACE.pack(tenant, tick), row, db=self._table, overwrite=False, append=append
        ):
            # another value was used or put in the same microsecond
            tick = max(tick, self._last(tenant)) + 1 if newest else tick + 1
        if tick != wanted:
            self._free_after[tenant, wanted] = tick + 1
        self._last_tenant = max(self._tenant_at_end(), tenant)
        self._sums.tick = max(self._sums.tick, tick)
        return tick

    def _tenant_at_end(self) -> int:
        if self._last_tenant is None:
            with self._txn.cursor(db=self._table) as cursor:
                self._last_tenant = cursor.key()[0] if cursor.last() else 0
        return self._last_tenant

    def move_to_end(self, tenant: int, before: int, charge: int, key: bytes) -> int:
        """Moves the value that has the tick `before` behind the tenant's other values, as the one used last.
        Returns its new tick."""
        sums, txn, table = self._sums, self._txn, self._table
        sums.tick = tick = sums.tick + 1
        txn.delete(PLACE.pack(tenant, before), db=table)
        append = tenant >= self._tenant_at_end()
        row = U64.pack(charge) + key
        if txn.put(PLACE.pack(tenant, tick), row, db=table, overwrite=False, append=append):
            if append:
                self._last_tenant = tenant
            return tick
        return self.add(tenant, tick, charge, key, newest=True)

    def _last(self, tenant: int) -> int:
        """Returns the tenant's last tick in the queue. Raises IndexDamaged if the tick is too large, or if
        the tenant's last row is missing."""
        with self._txn.cursor(db=self._table) as cursor:
            found = cursor.prev() if cursor.set_range(PLACE.pack(tenant + 1, 0)) else cursor.last()
            last = bytes(cursor.key()) if found else b""
        if len(last) != PLACE.size or last[0] != tenant or last >= PLACE.pack(tenant, LARGEST):
            raise IndexDamaged(f"the queue has {last.hex()}, which is no place of tenant {tenant}")
        return PLACE.unpack(last)[1]  # type: ignore[no-any-return]

    def remove(self, tenant: int, tick: int) -> None:
        self._txn.delete(PLACE.pack(tenant, tick), db=self._table)

    def queued_from(self, tenant: int, tick: int) -> Iterator[Queued]:
        """Yields the tenant's values with this tick and later ones, in their order. The caller must have
        taken all it wants before it adds or removes values."""
        with self._txn.cursor(db=self._table) as cursor:
            if not cursor.set_range(PLACE.pack(tenant, tick)):
                return
            for found, row in cursor.iternext():
                if found[0] != tenant:
                    return
                place = int.from_bytes(found[1:], "big")
                yield Queued(place, int.from_bytes(row[:8], "big"), row[8:], tenant)

    def tick_after(self, tenant: int, tick: int) -> int:
        """Returns the tenant's next tick in the queue; 0, which stands for the queue's beginning, if `tick`
        is the newest."""
        with self._txn.cursor(db=self._table) as cursor:
            if not cursor.set_range(PLACE.pack(tenant, tick + 1)) or cursor.key()[0] != tenant:
                return 0
            return int.from_bytes(cursor.key()[1:], "big")
