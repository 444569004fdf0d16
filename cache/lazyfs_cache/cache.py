"""The facade: values by key, bounded, shared with other processes, never wrong.

Reading a value takes no lock and does not touch the index. Whatever changes something waits for the change
lock, with a time-out (`ledger`), and values are written to tmp/ before it is taken. A failing disk turns the
cache off; it raises nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from lazyfs_cache.files import sealed
from lazyfs_cache.index.rows import Entry
from lazyfs_cache.policy.limits import Need
from lazyfs_cache.process import audit
from lazyfs_cache.process.admission import Admission, Reservation
from lazyfs_cache.process.download_locks import Claim, Claims
from lazyfs_cache.process.membership import log
from lazyfs_cache.process.pinning import Pinning
from lazyfs_cache.process.shared_index import Ledger
from lazyfs_cache.process.upkeep import Upkeep
from lazyfs_cache.report import Stats, Verified


class Cache:
    """An open cache directory. Thread-safe; made by `open_cache`."""

    def __init__(self, ledger: Ledger, claims: Claims, upkeep: Upkeep, let_go: Callable[[str], bool]) -> None:
        self.root = ledger.root
        self._ledger = ledger
        self._claims = claims
        self._upkeep = upkeep
        self._let_go = let_go
        self._disk = ledger.disk
        self._space = ledger.space
        self._uses = ledger.uses
        self._admission = Admission(ledger)
        self._pinning = Pinning(ledger)
        self._hits = self._misses = self._damaged = self._read_bytes = 0

    # -- reading: no lock, no index --------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The whole value, every block checked; None if it is not here."""
        if self._ledger.off is not None:
            return None
        try:
            value = self._disk.whole(key)
        except (OSError, sealed.Damaged) as error:
            self._unreadable(key, error)
            return None
        if value is None:
            self._misses += 1
            return None
        self._hits += 1
        self._read_bytes += len(value)
        if key != self._uses.last:
            self._uses.touch(key)
        return value

    def read(self, key: bytes, offset: int, length: int) -> bytes | None:
        """Bytes [offset, offset + length) of a value, cut at its end; only the 64 KiB blocks touched are read
        and checked. None if the value is not here."""
        if self._ledger.off is not None:
            return None
        try:
            part = self._disk.part(key, offset, length)
        except (OSError, sealed.Damaged) as error:
            self._unreadable(key, error)
            return None
        if part is None:
            self._misses += 1
            return None
        self._hits += 1
        self._read_bytes += len(part)
        if key != self._uses.last:
            self._uses.touch(key)
        return part

    def size(self, key: bytes) -> int | None:
        """The size of a value, without reading it; None if it is not here."""
        if self._ledger.off is not None:
            return None
        try:
            return self._disk.size(key)
        except OSError as error:
            self._ledger.fail(error)
            return None

    def _unreadable(self, key: bytes, error: OSError | sealed.Damaged) -> None:
        self._misses += 1
        if isinstance(error, OSError):
            self._ledger.fail(error)
            return
        log.warning("cache %s: value %s is damaged (%s), evicting it", self.root, key.hex(), error)
        self._damaged += 1
        self._uses.damaged(key)

    # -- admitting -------------------------------------------------------------------------------------

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Hold space for a value of `size` bytes before its download starts, evicting what is least recently
        used. None if no space may be freed, or the lock is not had in time: go on without the cache."""
        return self._admission.reserve(key, size)

    def put(self, key: bytes, value: bytes | memoryview, reservation: Reservation | None = None) -> bool:
        """Admit a value the caller has verified; True if it is here afterwards. A value that is here already
        under the key stays."""
        return self._admission.put(key, value, reservation)

    # -- one download per value --------------------------------------------------------------------------

    def claim(self, key: bytes) -> Claim | None:
        """The right to bring `key` here, for one thread of one process; None if another has it: `wait`, then
        look again. Look again after getting it, too: the value may have come in between."""
        if self._ledger.off is not None:
            return Claim()
        try:
            return self._claims.claim(key)
        except OSError as error:
            self._ledger.fail(error)
            return Claim()

    def wait(self, key: bytes, timeout: float) -> bool:
        """Wait until the claim on `key` ends, by release or by death; False after `timeout` seconds."""
        if self._ledger.off is not None:
            return True
        try:
            return self._claims.wait(key, timeout)
        except OSError as error:
            self._ledger.fail(error)
            return True

    # -- keeping -----------------------------------------------------------------------------------------

    def pin(self, key: bytes, owner: bytes) -> bool:
        """Keep a value from being evicted until `unpin` or this process's end; False if it is not here.

        Raises PinSetTooLarge if the pinned values together would leave too little room for anything else.
        """
        return self._pinning.pin(key, owner)

    def unpin(self, key: bytes, owner: bytes) -> bool:
        """Undo `pin`: the value goes back to its place in the order of use. False if the lock was not had:
        the pin may still be there."""
        return self._pinning.unpin(key, owner)

    @property
    def generation(self) -> int:
        """Number of the index in use. Where a new one took the place of one that was lost, pins of
        processes are gone; pin sets are not."""
        return self._ledger.purse.generation

    def keep(self, label: bytes, sizes: Mapping[bytes, int]) -> int:
        """Pin a set of keys, each with its value's size, beyond this process's end, in place of the set of
        that label; returns how many of them are here. Those that are not are pinned when they come.

        Raises PinSetTooLarge, and CacheError if the set could not be written.
        """
        return self._pinning.keep(label, sizes)

    def drop(self, label: bytes) -> int:
        """Give up a pin set; returns how many keys it had. Raises CacheError if that could not be written."""
        return self._pinning.drop(label)

    def kept(self) -> dict[bytes, list[bytes]]:
        """The pin sets: label -> keys."""
        return self._pinning.kept()

    # -- dropping ----------------------------------------------------------------------------------------

    def discard(self, key: bytes) -> None:
        """Evict one value, pinned or not; nothing happens if it is not here."""
        self._uses.damaged(key)
        self._ledger.remove_damaged(key)

    def evict(self, wanted: int) -> int:
        """Evict least recently used values of `wanted` bytes together, as far as they may be; returns the
        bytes that went."""
        before = self.stats().charged
        freed = 0
        while freed < wanted:
            if not self._ledger.evict(Need(wanted - freed, 0)):
                break
            freed = before - self.stats().charged
        return max(freed, 0)

    def resize(self, limit: int) -> None:
        """Set another limit for every process that has the cache open, and evict what is over it. Raises
        CacheError if it was not set."""
        self._ledger.resize(limit)
        self._ledger.shrink(lambda change: self._space.need(change, 0))
        self._ledger.fit_index()

    # -- looking -----------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """One look at the account, which waits no longer than a tenth of a second: where another process
        has the lock for so long, it is the last one this process saw. Zeros where a cache is off."""
        counters = {
            "hits": self._hits, "misses": self._misses, "admitted": self._admission.admitted,
            "refused": self._admission.refused, "damaged": self._damaged, "read_bytes": self._read_bytes,
        }  # fmt: skip
        sums, index, charged = self._ledger.sums()
        policy = "sieve" if sums.sieve else "lru"
        if self._ledger.off is not None:
            return Stats(state=f"off: {self._ledger.off}", directory=self.root, policy=policy, **counters)
        return Stats(
            state="rebuilding" if sums.unscanned else "on",
            directory=self.root,
            limit=sums.limit,
            policy=policy,
            charged=charged,
            pinned=sums.pinned,
            reserved=sums.reserved,
            index=index,
            entries=sums.entries,
            evictions=sums.evictions,
            **counters,
        )

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Every entry in the order of keys; what changes meanwhile may or may not be seen."""
        for page in self._ledger.pages(1000):
            yield from page

    def verify(self) -> Verified:
        """Read and check every value, evict what is damaged, and put index and files in step."""
        return audit.verify(self._ledger)

    def upkeep(self) -> None:
        """Do now what the upkeep thread would do: for callers that want it done."""
        self._upkeep.run_once()

    def close(self) -> None:
        """Write what is outstanding. The cache closes when all who opened it in this process have done so."""
        if self._let_go(self.root):
            self._upkeep.stop()
            self._ledger.close()
            self._claims.close()

    def abandon(self) -> None:
        """This is a forked child: everything stays its parent's, and nothing is here any more."""
        self._ledger.abandon()
        self._claims.abandon()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
