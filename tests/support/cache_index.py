"""An index of the cache alone, without files or processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from lazyfs_cache.index.database import Index


@contextmanager
def new_index(*, sieve: bool = False) -> Iterator[Index]:
    """Yields an empty index that orders its values by LRU or SIEVE."""
    with TemporaryDirectory() as directory:
        index = Index(directory, 1 << 24)
        try:
            with index.transaction() as transaction:
                transaction.sums.sieve = sieve
            yield index
        finally:
            index.close()
