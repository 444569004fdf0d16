"""Opens a store for reading, from its location or from the URL at which it is served."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from lazyfs.store import ReadableStore, open_store


@contextmanager
def open_readable(location: str) -> Iterator[ReadableStore]:
    """Opens a store for reading: a directory or bucket, or its http(s) URL. Raises UsageError."""
    if not location.startswith(("http://", "https://")):
        yield open_store(location)
        return
    from lazyfs.sync.fetched_store import FetchedStore  # HTTP clients take 60 ms to import
    from lazyfs.transport.open import open_fetcher

    logging.disable(logging.WARNING)  # a path that is down is in the error, once
    with closing(open_fetcher(location)) as fetcher:
        yield FetchedStore(fetcher)
