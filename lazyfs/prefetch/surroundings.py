"""The parts of a mount that its prefetchers use."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from lazyfs.client.demand import Demand
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.prefetch.line_share import LineShare
from lazyfs.prefetch.starts import ReadWatcher
from lazyfs.vfs.entries import Entries


def _nothing_collected(_: Digest) -> ObjectRef | None:
    return None


class Surroundings(NamedTuple):
    """The parts of its mount that a prefetcher uses."""

    entries: Entries
    lock: threading.Lock
    """Held around every call of `entries`."""
    demand: Demand
    cache_space: Callable[[], tuple[int, int] | None]
    """Returns (limit, occupied) of the cache in bytes as measured last, without waiting; None without a
    cache."""
    share: LineShare
    collected: Callable[[Digest], ObjectRef | None] = _nothing_collected
    """Returns the profile that was made from workers' reports (`lazyfs collect`) for the image with this top
    catalog; None if there is none. Does not wait."""
    watcher: ReadWatcher | None = None
    """An observer that is told of the reads in images; None if nobody watches."""
