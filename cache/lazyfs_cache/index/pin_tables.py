"""The tables of pins within one transaction: the holders of each key, and the number of pin sets that name
it."""

from collections.abc import Iterator

import lmdb

from lazyfs_cache.index.rows import KEPT, U32, U64, pin_row
from lazyfs_cache.index.tables import Tables


class PinTables:
    """The rows of pins. `Transaction` keeps the number of a key's pins in its entry.

    A pin's holder is the owner number of a process, or `rows.KEPT` if the pin is one of a pin set. Its label
    is the name that the process gave the pin, or the pin set's name.
    """

    def __init__(self, tables: Tables, txn: "lmdb.Transaction[bytes]") -> None:
        self._pins = tables.pins
        self._kept = tables.kept
        self._txn = txn

    def add(self, key: bytes, holder: int, label: bytes) -> bool:
        """Adds a pin. Returns False if the key was already pinned for (holder, label)."""
        if not self._txn.put(pin_row(holder, label, key), b"", db=self._pins, overwrite=False):
            return False
        if holder == KEPT:
            self._count_sets(key, 1)
        return True

    def remove(self, key: bytes, holder: int, label: bytes) -> bool:
        """Removes a pin. Returns False if the key was not pinned for (holder, label)."""
        if not self._txn.delete(pin_row(holder, label, key), db=self._pins):
            return False
        if holder == KEPT:
            self._count_sets(key, -1)
        return True

    def remove_processes(self, key: bytes) -> None:
        """Removes the pins of all processes on a key; those of pin sets stay."""
        for holder, label, found in list(self._rows(b"")):
            if found == key and holder != KEPT:
                self._txn.delete(pin_row(holder, label, key), db=self._pins)

    def sets_of(self, key: bytes) -> int:
        """Returns the number of pin sets that name the key; its value may or may not be here."""
        row = self._txn.get(key, db=self._kept)
        count: int = U32.unpack(row)[0] if row else 0
        return count

    def _count_sets(self, key: bytes, more: int) -> None:
        count = self.sets_of(key) + more
        if count:
            self._txn.put(key, U32.pack(count), db=self._kept)
        else:
            self._txn.delete(key, db=self._kept)

    def of(self, holder: int, label: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """Returns (label, key) of every pin of a holder; with `label`, only of the pins with this label."""
        prefix = U64.pack(holder) if label is None else pin_row(holder, label, b"")
        return [(found, key) for _, found, key in self._rows(prefix)]

    def _rows(self, prefix: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        with self._txn.cursor(db=self._pins) as cursor:
            positioned = cursor.set_range(prefix) if prefix else cursor.first()
            while positioned:
                row = bytes(cursor.key())
                if not row.startswith(prefix):
                    return
                size = int.from_bytes(row[8:10], "big")
                yield int.from_bytes(row[:8], "big"), row[10 : 10 + size], row[10 + size :]
                positioned = cursor.next()
