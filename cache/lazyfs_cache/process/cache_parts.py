"""The parts of an open cache that reading, admission and upkeep share."""

import threading
from typing import NamedTuple

from lazyfs_cache.process.recent_uses import RecentUses
from lazyfs_cache.process.room import Room
from lazyfs_cache.process.shared_index import SharedIndex
from lazyfs_cache.process.suspects import Suspects


class CacheParts(NamedTuple):
    """The parts of one open cache."""

    shared: SharedIndex
    room: Room
    uses: RecentUses
    suspects: Suspects
    wake: threading.Event
    """Set when the upkeep thread has work, for example space to give back."""
