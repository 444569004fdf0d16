"""The index: what each value is charged, how recently it was used, and the sums of it all, in LMDB.

Everything here is called under the change lock (`locks.ChangeLock`), which one process has at a time: LMDB
runs without locks of its own (MDB_NOLOCK, whose documentation asks for just that). So there is no table of
readers, which would tell processes apart by PID: processes of all PID namespaces share one index, and none
that dies leaves LMDB anything to clean up. Reads of values never come here. `rows` describes the tables.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb
import msgspec

from lazyfs_cache.index.rows import SUMS, Entry, IndexDamaged, Sums, decode_sums, encode_sums, entry_of
from lazyfs_cache.index.transaction import Change


class Index:
    """One LMDB environment. Hold the change lock for every call but `close`. Methods raise lmdb.Error, or
    IndexDamaged."""

    def __init__(self, directory: str, map_size: int) -> None:
        self.directory = directory
        self._file = os.path.join(directory, "data.mdb")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # No sync: the index is rebuilt from the files after an unclean stop, and a commit that waits for
        # the disk allows 200-300 changes a second. No writemap: a stray write could not be told from data.
        self._env = lmdb.open(
            directory, map_size=map_size, max_dbs=8, lock=False, sync=False, metasync=False, mode=0o600
        )
        try:
            self._refuse_truncated()
            self.entries = self._env.open_db(b"entries")
            self.queue = self._env.open_db(b"queue")
            self.pins = self._env.open_db(b"pins")
            self.kept = self._env.open_db(b"kept")
            self.owners = self._env.open_db(b"owners")
            self.folders = self._env.open_db(b"folders")
            self.main = self._env.open_db(b"main")
        except BaseException:
            self._env.close()
            raise

    def _refuse_truncated(self) -> None:
        """LMDB maps its file: touching a page that is not there would kill the process."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if os.stat(self._file).st_size < needed:
            raise IndexDamaged(f"{self._file} is shorter than the {needed} bytes it says it has")

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """One transaction; committed when the block ends, dropped when it raises."""
        with self._begin(write=True) as txn:
            try:
                change = Change(self, txn)
                yield change
                txn.put(SUMS, encode_sums(change.sums), db=self.main)
            except (struct.error, msgspec.DecodeError) as error:
                raise IndexDamaged(f"{self._file}: {error}") from error
        change.committed = True

    def _begin(self, *, write: bool) -> "lmdb.Transaction[bytes]":
        try:
            return self._env.begin(write=write)
        except lmdb.MapResizedError:  # another process has made the map larger
            self._env.set_mapsize(0)
            return self._env.begin(write=write)

    def sums(self) -> Sums:
        """The sums as last committed."""
        with self._begin(write=False) as txn:
            return self._sums(txn)

    def _sums(self, txn: "lmdb.Transaction[bytes]") -> Sums:
        try:
            packed = txn.get(SUMS, db=self.main)
            return decode_sums(packed) if packed else Sums()
        except msgspec.DecodeError as error:
            raise IndexDamaged(f"{self._file}: {error}") from error

    def page(self, after: bytes, count: int) -> list[tuple[bytes, Entry]]:
        """Up to `count` entries in the order of keys, after key `after` (b"" for the first)."""
        found: list[tuple[bytes, Entry]] = []
        with self._begin(write=False) as txn, txn.cursor(db=self.entries) as cursor:
            floor = self._sums(txn).floor
            positioned = cursor.set_range(after) if after else cursor.first()
            while positioned and len(found) < count:
                key, row = cursor.item()
                entry = entry_of(row, floor)
                if entry is not None and key != after:
                    found.append((key, entry))
                positioned = cursor.next()
        return found

    @property
    def map_size(self) -> int:
        """Bytes the index may grow to."""
        size: int = self._env.info()["map_size"]
        return size

    def enlarge(self, map_size: int) -> None:
        """Let the index grow to `map_size` bytes. Outside of a change."""
        self._env.set_mapsize(map_size)

    def used(self) -> int:
        """Bytes of disk the index's data file occupies."""
        return os.stat(self._file).st_blocks * 512

    def sync(self) -> None:
        self._env.sync(True)

    def close(self) -> None:
        self._env.close()
