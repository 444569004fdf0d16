"""The kinds of the index's errors."""

import lmdb


class IndexDamaged(Exception):
    """The index contradicts itself or cannot be parsed: set it aside and rebuild it from the files."""


DAMAGED = (
    IndexDamaged, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError,
    lmdb.VersionMismatchError, lmdb.IncompatibleError, lmdb.BadTxnError,
    lmdb.PageFullError, lmdb.CursorFullError, lmdb.BadValsizeError,
)  # fmt: skip
"""Errors that mean that the index is damaged, though its disk may be healthy."""

IndexFailure = lmdb.Error
"""Any error of LMDB."""

MapFull = lmdb.MapFullError
"""The memory map of the index has no room for another page: enlarge the map and try again."""

DiskFull = lmdb.DiskError
"""The disk has no room for the index to grow."""
