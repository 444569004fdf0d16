"""The facade: values by key, bounded, shared with other processes, never wrong.

Reading a value takes no lock and does not touch the index. Every change of the index waits for the index
lock, with a time-out (`process.shared_index`), and values are written to tmp/ before the lock is taken. A
failing disk turns the cache off and raises no exception.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType

from lazyfs_cache.files import layout, sealed
from lazyfs_cache.index.rows import Entry
from lazyfs_cache.process import audit
from lazyfs_cache.process.admission import Admission
from lazyfs_cache.process.cache_parts import CacheParts
from lazyfs_cache.process.download_locks import DownloadLock, DownloadLocks
from lazyfs_cache.process.pinning import Pinning
from lazyfs_cache.process.reservation import Reservation
from lazyfs_cache.process.upkeep import Upkeep
from lazyfs_cache.report import Stats, Verified

log = logging.getLogger("lazyfs_cache")


class Cache:
    """An open cache directory. Thread-safe; made by `open_cache`."""

    def __init__(
        self,
        parts: CacheParts,
        admission: Admission,
        pinning: Pinning,
        downloads: DownloadLocks,
        upkeep: Upkeep,
        close_one: Callable[[str], bool],
    ) -> None:
        """`close_one`: called with the directory when one of those who have opened the cache in this process
        closes it; returns True for the last of them."""
        self.root = parts.shared.files.root
        self._shared, self._room, self._uses, self._suspects, _ = parts
        self._admission = admission
        self._pinning = pinning
        self._downloads = downloads
        self._upkeep = upkeep
        self._close_one = close_one
        self._files = parts.shared.files
        self._health = parts.shared.health
        self._hits = self._misses = self._damaged = self._read_bytes = 0

    # -- reading: no lock, no index --------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Returns the whole value, every block checked; None if it is not here."""
        if self._health.off is not None:
            return None
        try:
            value = self._files.whole(key)
        except (OSError, sealed.Damaged) as error:
            self._unreadable(key, error)
            return None
        if value is None:
            self._misses += 1
            return None
        self._hits += 1
        self._read_bytes += len(value)
        if key != self._uses.last:
            self._uses.add(key)
        return value

    def read(self, key: bytes, offset: int, length: int, size: int | None = None) -> bytes | None:
        """Returns bytes [offset, offset + length) of a value, cut at its end; only the 64 KiB blocks touched
        are read and checked. Returns None if the value is not here, or is not `size` bytes long."""
        if self._health.off is not None:
            return None
        try:
            part = self._files.part(key, offset, length, size)
        except (OSError, sealed.Damaged) as error:
            self._unreadable(key, error)
            return None
        if part is None:
            self._misses += 1
            return None
        self._hits += 1
        self._read_bytes += len(part)
        if key != self._uses.last:
            self._uses.add(key)
        return part

    def size(self, key: bytes) -> int | None:
        """Returns the size of a value, without reading it; None if it is not here."""
        if self._health.off is None:
            try:
                return self._files.size(key)
            except OSError as error:
                self._health.fail(error)
        return None

    def _unreadable(self, key: bytes, error: OSError | sealed.Damaged) -> None:
        self._misses += 1
        if isinstance(error, OSError):
            self._health.fail(error)
            return
        log.warning("cache %s: value %s is damaged (%s), evicting it", self.root, key.hex(), error)
        self._damaged += 1
        self._suspects.add(key)

    # -- admitting -------------------------------------------------------------------------------------

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Holds space for a value of `size` bytes before its download starts, evicting least recently used
        values. Returns None if no space may be freed, or if the index lock cannot be taken in time: the
        caller goes on without the cache."""
        return self._admission.reserve(key, size)

    def put(
        self,
        key: bytes,
        value: bytes | memoryview,
        reservation: Reservation | None = None,
        *,
        tenant: bytes = b"",
    ) -> bool:
        """Admits a value that the caller has verified. Returns True if it is here afterwards. A value that is
        already here under the key stays, counts as used, and still belongs to the tenant that brought it.

        `tenant`: the name of the tenant for whom the value is kept, 32 bytes at most. A value that another
        tenant used within a day is pushed out only if that tenant holds more than this one. Raises ValueError
        for a longer name.
        """
        layout.check_tenant(tenant)
        return self._admission.put(key, value, reservation, tenant)

    def put_many(
        self, values: Sequence[tuple[bytes, bytes | memoryview]], *, tenant: bytes = b""
    ) -> list[bool]:
        """Admits several verified values, as `put` does. Returns a list with True for each value that is here
        afterwards. A value that has no room, or fails, does not affect the other values."""
        layout.check_tenant(tenant)
        return self._admission.put_many(values, tenant)

    # -- one download per value --------------------------------------------------------------------------

    def claim(self, key: bytes, waited: float = 0.0) -> DownloadLock | None:
        """Returns the right to bring `key` here, for one thread of one process; None if another has it: then
        `wait`, and claim again. The caller looks for the value after getting the right: it may have come in
        between.

        `waited`: seconds since the caller first asked. After two seconds a caller no longer waits for a
        holder that is stopped or slow: it gets a lock that holds nothing, and downloads beside that holder.
        """
        return self._downloads.take(key, waited)

    def claim_many(self, keys: Sequence[bytes]) -> list[DownloadLock | None]:
        """Claims several keys, none of which the caller has waited for."""
        return self._downloads.take_many(keys)

    def wait(self, key: bytes, timeout: float, waited: float = 0.0) -> bool:
        """Waits until a new claim of `key` may succeed: the download lock has ended, by release or by death,
        or the caller has waited long enough. Returns False after `timeout` seconds. `waited`: seconds since
        the caller first asked for the key."""
        return self._downloads.wait(key, timeout, waited)

    # -- keeping -----------------------------------------------------------------------------------------

    def pin(self, key: bytes, owner: bytes) -> bool:
        """Keeps a value from being evicted until `unpin` or this process's end. Returns False if it is not
        here. `owner`: a label that the caller chooses: a value can have one pin of this process for each
        label.

        Raises PinSetTooLarge if the pinned values together would leave too little room for anything else.
        """
        return self._pinning.pin(key, owner)

    def unpin(self, key: bytes, owner: bytes) -> bool:
        """Removes the pin with the label `owner`. A value that has no pin left returns to its place in the
        order of use. Returns False if the index lock could not be taken: the pin may still be there."""
        return self._pinning.unpin(key, owner)

    @property
    def generation(self) -> int:
        """Number of the index in use. When it changes, the index was lost and a new one begun: the pins of
        processes are lost, pin sets are not."""
        return self._shared.generation.number

    def keep(self, label: bytes, sizes: Mapping[bytes, int]) -> int:
        """Pins a set of keys, each with its value's size, in place of the earlier set of that label. The pins
        outlive this process. Returns the number of keys that are here; the values of the other keys are
        pinned when they come.

        Raises PinSetTooLarge, and CacheError if the set could not be written.
        """
        return self._pinning.keep(label, sizes)

    def drop(self, label: bytes) -> int:
        """Gives up a pin set. Returns the number of its keys. Raises CacheError if the change could not be
        written."""
        return self._pinning.drop(label)

    def kept(self) -> dict[bytes, list[bytes]]:
        """Returns the keys of each pin set, by the set's label."""
        return self._pinning.kept()

    # -- dropping ----------------------------------------------------------------------------------------

    def discard(self, key: bytes) -> None:
        """Evicts one value, pinned or not; does nothing if it is not here."""
        self._suspects.add(key)
        self._admission.remove_suspect(key)

    def evict(self, wanted: int) -> int:
        """Evicts least recently used values until `wanted` bytes are free or no more may be evicted; returns
        the bytes freed."""
        return self._room.evict_bytes(wanted)

    def resize(self, limit: int) -> None:
        """Sets another limit for every process that has the cache open, and evicts down to it. Raises
        CacheError if it was not set, PinSetTooLarge if it is too low for the pinned values."""
        self._room.resize(limit)

    # -- looking -----------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Returns the cache's figures. Waits for the index lock at most a tenth of a second; if it cannot be
        taken, the figures are those that this process saw last. All are zero if the cache is off."""
        counters = {
            "hits": self._hits, "misses": self._misses, "admitted": self._admission.admitted,
            "refused": self._admission.refused, "damaged": self._damaged, "read_bytes": self._read_bytes,
        }  # fmt: skip
        sums, index_file, charged = self._shared.account()
        policy = "sieve" if sums.sieve else "lru"
        if self._health.off is not None:
            return Stats(state=f"off: {self._health.off}", directory=self.root, policy=policy, **counters)
        return Stats(
            state="rebuilding" if sums.unscanned else "on",
            directory=self.root,
            limit=sums.limit,
            policy=policy,
            charged=charged,
            pinned=sums.pinned,
            reserved=sums.reserved,
            index=index_file,
            entries=sums.entries,
            evictions=sums.evictions,
            **counters,
        )

    def processes(self) -> int:
        """Returns the number of processes that have the cache open; 1 if the number cannot be read within a
        tenth of a second."""
        return self._shared.processes()

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Yields every key with its entry in the index, in the order of keys; changes made meanwhile may or
        may not be seen."""
        for page in self._shared.pages(1000):
            yield from page

    def verify(self) -> Verified:
        """Reads and checks every value, evicts damaged ones, and puts index and files in step."""
        return audit.verify(self._shared, self._suspects)

    def upkeep(self) -> None:
        """Does now what the upkeep thread does when there is work (`process.upkeep`)."""
        self._upkeep.run_once()

    def close(self) -> None:
        """Closes the cache for one of those who have opened it in this process. When each of them has called
        this, writes everything outstanding and closes the cache itself."""
        if self._close_one(self.root):
            self._upkeep.stop()
            self._shared.close()
            self._downloads.close()

    def abandon(self) -> None:
        """Leaves the open cache to the parent process. Called in a forked child, which finds no values from
        then on."""
        self._shared.abandon()
        self._downloads.abandon()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
