"""The index that this process uses. It is replaced by a new one, the next *generation*, if it is damaged or
too large for the limit, or if another process has begun the next generation."""

import logging
import threading
from contextlib import ExitStack

from lazyfs_cache.files import journal, pin_sets, usage
from lazyfs_cache.files.journal import Journal
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index import database
from lazyfs_cache.index.database import Index
from lazyfs_cache.index.faults import DAMAGED, MapFull
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.policy.allowance import SpaceAllowance
from lazyfs_cache.policy.limits import Limits
from lazyfs_cache.policy.sizes import largest_index
from lazyfs_cache.process.adopting import SCANNED
from lazyfs_cache.process.arrivals import Arrivals
from lazyfs_cache.process.evictor import Evictor
from lazyfs_cache.process.health import Health
from lazyfs_cache.process.index_generation import IndexGeneration
from lazyfs_cache.process.measures import DirectoryMeasures
from lazyfs_cache.process.membership import Membership
from lazyfs_cache.process.pending_allowance import PendingAllowance
from lazyfs_cache.process.pin_room import check_pins_fit
from lazyfs_cache.process.recovery import clean_up_dead, restore_pin_sets
from lazyfs_cache.process.spare_files import SpareFiles
from lazyfs_cache.process.suspects import Suspects

log = logging.getLogger("lazyfs_cache")


class CurrentIndex:
    """The index in use by this process. The caller holds the index lock for every call. Methods raise
    OSError, CacheError, and lmdb.Error."""

    def __init__(
        self,
        membership: Membership,
        files: ValueFiles,
        suspects: Suspects,
        health: Health,
        wake: threading.Event,
        *,
        keep_free: int,
        limit: int | None,
    ) -> None:
        """Joins the index that is in use. `keep_free`: bytes of the filesystem that are left free. `wake` is
        set when there is a rebuild to do. Raises PinSetTooLarge if `limit`, which the first process has set,
        is too low for the pinned values."""
        self._membership = membership
        self._files = files
        self._suspects = suspects
        self._health = health
        self._wake = wake
        self._keep_free = keep_free
        self._sized_for = 0
        try:
            index = membership.open_index()
            self.generation = self._join(index, first=membership.first, limit=limit)
        except DAMAGED as error:
            membership.begin_generation(error)
            self.generation = self._join(membership.open_index(), first=membership.first, limit=limit)

    # -- joining an index ------------------------------------------------------------------------------

    def _join(self, index: Index, *, first: bool, limit: int | None) -> IndexGeneration:
        """Joins an index just opened. The index is closed if joining it fails, because LMDB opens no
        environment twice in one process. `first`: no other process uses it; `limit`: the limit that this
        process has just set."""
        try:
            try:
                return self._register(index, first=first, limit=limit)
            except MapFull:
                self._enlarge(index)
                return self._register(index, first=first, limit=limit)
        except BaseException:
            index.close()
            raise

    def _register(self, index: Index, *, first: bool, limit: int | None) -> IndexGeneration:
        """Enters this process among the index's owners, and cleans up after dead ones. Begins or takes over a
        rebuild if one is needed. `first`: no other process uses the index. `limit`: the limit that this
        process has just set."""
        root, files, number = self._files.root, self._files, self._membership.state.generation
        limits = Limits(DirectoryMeasures(files, index), keep_free=self._keep_free, arriving=journal.SLOTS)
        with ExitStack() as undo:
            with index.transaction() as transaction:
                unknown = not transaction.sums.last_owner and files.any_data()
                if not transaction.sums.last_owner:
                    transaction.sums.scan = 0 if unknown else SCANNED
                if first or not transaction.sums.limit:
                    self._write_agreed(transaction)
                owner = transaction.add_owner(above=number << 32)
                self._membership.owners.take(owner)
                clean_up_dead(transaction, files, self._membership.owners, owner)
                unknown = unknown or (first and files.any_tmp())
                own = Journal(root, owner)
                undo.callback(own.close)
                transaction.hold(owner, files.most_for_file(journal.SIZE))
                self._see_to_rebuild(transaction, limits, owner, first=first, unknown=unknown)
                if first and limit is not None:
                    check_pins_fit(root, limits, transaction.sums)
            undo.pop_all()
        return self._generation(number, index, owner, own, limits)

    def _write_agreed(self, transaction: Transaction) -> None:
        """Copies the limit, the policy and the pin sets from their files into the index."""
        sums, state = transaction.sums, self._membership.state
        sums.limit = state.limit
        sums.sieve = state.policy == "sieve"
        restore_pin_sets(transaction, dict(pin_sets.load_all(self._files.root)))
        sums.pin_sets = usage.pin_set_bytes(self._files.root, self._files.block)

    def _see_to_rebuild(
        self, transaction: Transaction, limits: Limits, owner: int, *, first: bool, unknown: bool
    ) -> None:
        """Begins or takes over a rebuild if one is needed. `first`: no other process uses the index.
        `unknown`: there may be files that the index does not name."""
        sums = transaction.sums
        if unknown:
            # Until the files are known, everything up to the limit counts as used. At least one byte does,
            # even if directories alone exceed the limit: an `unscanned` above 0 is the sign of a rebuild to
            # do.
            others = sums.stored + sums.directories + sums.pin_sets
            sums.unscanned = max(limits.capacity(sums) - others, 1)
        if sums.unscanned and (unknown or first):
            sums.scanner = owner
        if sums.unscanned:
            self._wake.set()

    def _generation(
        self, number: int, index: Index, owner: int, own: Journal, limits: Limits
    ) -> IndexGeneration:
        evictor = Evictor(own, self._files)
        allowance = SpaceAllowance(journal.SPARES)
        spares = SpareFiles(owner, self._files, allowance, self._health)
        pending = PendingAllowance(owner, limits, evictor, allowance, spares, self._wake)
        return IndexGeneration(
            number, index, owner, own, limits, evictor, allowance, spares, Arrivals(), pending
        )

    # -- another generation ----------------------------------------------------------------------------

    def follow(self) -> IndexGeneration:
        """Returns the generation in use. If another process has begun a new one, joins that first."""
        if self._membership.stale():
            self.generation.index.close()
            self._membership.follow()
            self._reopen()
        return self.generation

    def replace(self, why: object, *, keep: bool = True) -> None:
        """Begins a new generation of the index. `why`: the reason, for the log. `keep`: True if the old index
        is kept for an operator to look at."""
        self.generation.index.close()
        self._membership.begin_generation(why, keep=keep)
        self._reopen()

    def _reopen(self) -> None:
        index = self._membership.open_index()
        old = self.generation
        old.spares.discard(old.allowance.end())
        self._membership.owners.drop(old.owner)
        old.journal.close()
        self._files.discard_tmp(journal.name(old.owner))
        for value in old.arrivals.end():  # the new index has no entries for them
            self._suspects.add(value.key)
        self.generation = self._join(index, first=False, limit=None)

    # -- its size --------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Begins a new index if the present one is too large for a lowered limit."""
        limit = self._membership.state.limit
        if not self._membership.stale() and self.generation.index.length() > largest_index(limit):
            self.replace("the limit was lowered", keep=False)

    def enlarge(self) -> None:
        """Enlarges the index's map, because it is full: the size computed from the limit (`policy.sizes`) was
        too small."""
        self._enlarge(self.generation.index)

    def _enlarge(self, index: Index) -> None:
        index.enlarge(index.map_size * 5 // 4 // 4096 * 4096)
        log.warning(
            "cache %s: the index's map was full, and is %d bytes now", self._files.root, index.map_size
        )

    def fit_map(self, limit: int) -> None:
        """Enlarges the index's map if it was made for a smaller limit. Called outside of a transaction."""
        if limit != self._sized_for:
            wanted = database.map_size(limit)
            if wanted > self.generation.index.map_size:
                self.generation.index.enlarge(wanted)
            self._sized_for = limit

    def close(self) -> None:
        """Closes the index; its files stay."""
        self.generation.index.close()
        self.generation.journal.close()
