"""The index as an LMDB database. Processes take turns to open transactions in it.

Every call here is made under the index lock (`process.locks.IndexLock`), which one process has at a time, so
LMDB runs without locks of its own (MDB_NOLOCK, whose documentation demands such a lock). So there is no table
of readers, which would identify processes by PID: processes of all PID namespaces share one index, and a
process that dies leaves nothing in LMDB to clean up. Reads of values never use this module.
"""

import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb
import msgspec

from lazyfs_cache.index.faults import IndexDamaged
from lazyfs_cache.index.rows import SUMS, Entry, Sums, entry_of, read_sums
from lazyfs_cache.index.tables import open_tables
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy import sizes


def map_size(limit: int) -> int:
    """Returns the address space for the index of a cache with this limit. It stays within RLIMIT_AS, which
    batch systems set."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sizes.map_size(limit, None if allowed == resource.RLIM_INFINITY else allowed)


class Index:
    """One LMDB environment. The caller holds the index lock for every call but `close`. Methods raise
    lmdb.Error, or IndexDamaged."""

    def __init__(self, directory: str, map_size: int) -> None:
        self.file = os.path.join(directory, "data.mdb")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if os.path.islink(self.file):  # LMDB follows links
            raise IndexDamaged(f"{self.file} is a link")
        # No sync: the index is rebuilt from the files after an unclean stop, and commits that wait for the
        # disk allow only 200-300 transactions a second. No writemap: with it a stray write would look like
        # data.
        self._env = lmdb.open(
            directory, map_size=map_size, max_dbs=8, lock=False, sync=False, metasync=False, mode=0o600
        )
        try:
            self._refuse_truncated()
            self.tables = open_tables(self._env)
        except BaseException:
            self._env.close()
            raise

    def _refuse_truncated(self) -> None:
        """Raises IndexDamaged if the file is truncated: LMDB maps it, and touching a missing page would kill
        the process."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if os.stat(self.file).st_size < needed:
            raise IndexDamaged(f"{self.file} is shorter than the {needed} bytes that it states")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yields a transaction, which is committed when the block ends, and dropped if the block raises."""
        with self._begin(write=True) as txn, self._naming_damage():
            transaction = Transaction(self.tables, txn)
            yield transaction
            transaction.write_sums()
        transaction.committed = True

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Raises IndexDamaged for errors in decoding rows: a page of the file was changed."""
        try:
            yield
        except (struct.error, msgspec.MsgspecError, OverflowError, IndexError) as error:
            raise IndexDamaged(f"{self.file}: {error}") from error

    def _begin(self, *, write: bool) -> "lmdb.Transaction[bytes]":
        try:
            return self._env.begin(write=write)
        except lmdb.MapResizedError:  # another process has enlarged the map
            self._env.set_mapsize(0)
            return self._env.begin(write=write)

    def sums(self) -> Sums:
        """Returns the totals over the whole cache, as last committed."""
        with self._begin(write=False) as txn, self._naming_damage():
            return self._sums(txn)

    def processes(self) -> int:
        """Returns the number of processes that have the cache open. A process that died counts until another
        one has cleaned up after it."""
        with self._begin(write=False) as txn:
            return int(txn.stat(self.tables.owners)["entries"])

    def _sums(self, txn: "lmdb.Transaction[bytes]") -> Sums:
        return read_sums(txn.get(SUMS, db=self.tables.main))

    def page(self, after: bytes, count: int) -> list[tuple[bytes, Entry]]:
        """Returns the keys and entries of up to `count` values, in the order of keys, after key `after` (b""
        for the first)."""
        found: list[tuple[bytes, Entry]] = []
        with (
            self._begin(write=False) as txn,
            self._naming_damage(),
            txn.cursor(db=self.tables.entries) as cursor,
        ):
            tenants = self._sums(txn).tenants
            positioned = cursor.set_range(after) if after else cursor.first()
            while positioned and len(found) < count:
                key, row = cursor.item()
                entry = entry_of(row, tenants)
                if entry is not None and key != after:
                    found.append((key, entry))
                positioned = cursor.next()
        return found

    @property
    def map_size(self) -> int:
        """The number of bytes to which the index may grow."""
        size: int = self._env.info()["map_size"]
        return size

    def enlarge(self, map_size: int) -> None:
        """Sets the number of bytes to which the index may grow. Called outside of a transaction."""
        self._env.set_mapsize(map_size)

    def used(self) -> int:
        """Returns the number of bytes of disk the index's data file occupies."""
        return os.stat(self.file).st_blocks * 512

    def length(self) -> int:
        """Returns the length in bytes of the index's data file: an index never shrinks."""
        return os.stat(self.file).st_size

    def sync(self) -> None:
        """Flushes the index; the whole index is on the disk when this returns."""
        self._env.sync(True)

    def close(self) -> None:
        self._env.close()
