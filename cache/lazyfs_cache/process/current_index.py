"""The index in use, and how another takes its place: found damaged, made anew by another process, or grown
out of proportion to the limit."""

import logging
import threading

import lmdb

from lazyfs_cache.errors import PinSetTooLarge
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.rows import DAMAGED
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.policy.allowance import Purse
from lazyfs_cache.policy.limits import Space, map_size
from lazyfs_cache.process import agreement as opening
from lazyfs_cache.process.membership import Seat
from lazyfs_cache.process.pending_allowance import Grant
from lazyfs_cache.process.recent_uses import Uses

log = logging.getLogger("lazyfs_cache")


class Reign:
    """Everything here is called under the change lock. Methods raise OSError, CacheError, and lmdb.Error."""

    def __init__(
        self,
        index: Index,
        seat: Seat,
        space: Space,
        grant: Grant,
        purse: Purse,
        uses: Uses,
        wake: threading.Event,
    ) -> None:
        """`wake` is set where there is a rebuild to do."""
        self.index = index
        self._seat = seat
        self._space = space
        self._grant = grant
        self._purse = purse
        self._uses = uses
        self._wake = wake
        self._sized_for = 0

    def begin(self, *, first: bool, limit: int | None) -> None:
        """Take part in the index that was found; `first`, `limit`: see `Ledger`. Raises PinSetTooLarge."""
        try:
            self._join(first=first, limit=limit)
        except lmdb.MapFullError:
            self.enlarge()
            self._join(first=first, limit=limit)
        except DAMAGED as error:
            self.index.close()
            self._seat.set_aside(error)
            self.index = self._seat.open_index()
            self._space.use(self.index)
            self._join(first=False, limit=None)

    def _join(self, *, first: bool, limit: int | None) -> None:
        with self.index.change() as change:
            if self._seat.join(change, self._space, first=first):
                self._wake.set()
            if first and limit is not None:
                self.bear_pins(change, limit)
        self._purse.begin(self._seat.state.generation)

    def bear_pins(self, change: Change, limit: int) -> None:
        """Raises PinSetTooLarge if a limit, which is the change's already, is too low for what is pinned."""
        if change.sums.pinned and not self._space.pinnable(change.sums, 0):
            raise PinSetTooLarge(
                f"cache {self._seat.root}: {change.sums.pinned} bytes are pinned, too many for a limit of "
                f"{limit}; unpin something or give a higher limit"
            )

    def follow(self) -> None:
        """If another process has begun a new generation, go over to it."""
        if self._seat.stale():
            self.index.close()
            self._seat.follow()
            self._reopen()

    def replace(self, why: object, *, keep: bool = True) -> None:
        """Begin a new generation; `keep` the old index for whoever wants to know."""
        self.index.close()
        self._seat.set_aside(why, keep=keep)
        self._reopen()

    def _reopen(self) -> None:
        self.index = self._seat.open_index()
        self._space.use(self.index)
        self._grant.discard(self._purse.drain()[0])
        self._purse.begin(self._seat.state.generation)  # what arrives from here on is for the new index
        self._seat.rise()
        for value in self._purse.take_arrived():  # nothing in the new index stands for them
            self._uses.damaged(value.key)
            self._purse.free_slot(value.slot)
        self._join(first=False, limit=None)

    def fit(self) -> None:
        """After the limit was lowered: an index that is out of proportion to it is made anew."""
        generation, limit = self._seat.state.generation, self._seat.state.limit
        if not self._seat.stale() and opening.out_of_proportion(self._seat.root, generation, limit):
            self.replace("the limit was lowered", keep=False)

    def enlarge(self) -> None:
        """The map is full: what it was sized for (see `space`) was too little."""
        self.index.enlarge(self.index.map_size * 5 // 4 // 4096 * 4096)
        log.warning(
            "cache %s: the index's map was full, and is %d bytes now", self._seat.root, self.index.map_size
        )

    def fit_map(self, limit: int) -> None:
        """Where the limit is another than the map was made for. Outside of a change."""
        if limit != self._sized_for:
            if map_size(limit) > self.index.map_size:
                self.index.enlarge(map_size(limit))
            self._sized_for = limit
