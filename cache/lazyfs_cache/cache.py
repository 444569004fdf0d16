"""The facade: values by key, bounded, shared with other processes, never wrong.

Concurrency, in short (docs/cache.md has the whole): reading a value takes no lock and does not touch the
index. Every change of the index or of names under data/ is made under the change lock; values are written to
tmp/ outside of it. A failing disk turns the cache off; it raises nothing.
"""

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import lmdb

from lazyfs_cache import layout, opening, recovery, sealed, state
from lazyfs_cache.claims import Claim, Claims
from lazyfs_cache.disk import Disk
from lazyfs_cache.errors import CacheError, PinSetTooLarge, UnusableDirectory
from lazyfs_cache.index import Change, Entry, Index, Sums
from lazyfs_cache.locks import ByteLocks, ChangeLock, Presence
from lazyfs_cache.report import Stats
from lazyfs_cache.space import Space

T = TypeVar("T")

_log = logging.getLogger("lazyfs_cache")

TOUCHES = 16384
"""Uses remembered until they are written to the index; the oldest are forgotten beyond that."""

FLUSH_AT = 1024
FLUSH_AFTER = 0.5
"""Touches that wake the maintenance thread, and seconds it lets them gather."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Reservation:
    """Space held for one value that is on its way; given back unless `put` used it."""

    def __init__(self, cache: "Cache | None", number: int, key: bytes, size: int, charge: int) -> None:
        self._cache = cache
        self.number = number
        self.key = key
        self.size = size
        self.charge = charge

    def release(self) -> None:
        """Give the space back. Does nothing the second time, or after `put` used it."""
        cache, self._cache = self._cache, None
        if cache is not None:
            cache._release(self.number)

    def keep(self) -> None:
        """The value is here: its space is charged as an entry now."""
        self._cache = None

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Cache:
    """An open cache directory. Thread-safe; made by `open_cache`."""

    def __init__(self, root: str, limit: int, *, keep_free: int, fsync: bool, lock_timeout: float) -> None:
        self.root = root
        self._timeout = lock_timeout
        self._off: str | None = None
        self._touched: deque[bytes] = deque(maxlen=TOUCHES)
        self._last = b""
        self._damaged: deque[bytes] = deque()
        self._releases: deque[int] = deque()
        self._hits = self._misses = self._admitted = self._refused = self._bad = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        opening.prepare(root, limit)
        self._lock = ChangeLock(os.path.join(root, layout.LOCK))
        self._presence = Presence(os.path.join(root, layout.PRESENCE))
        with self._lock.held(max(lock_timeout, 10)) as held:
            if not held:
                raise CacheError(f"cache {root}: another process holds its lock; look for a stopped one")
            self._state, rebuild = opening.agree(root, limit, self._presence)
            first = self._presence.alone()
            self._presence.share()
            self._owners = ByteLocks(os.path.join(root, layout.OWNERS))
            self._claims = Claims(os.path.join(root, layout.CLAIMS))
            self._disk = Disk(root, fsync=fsync)
            self._index = Index(opening.index_path(root, self._state.generation), self._state.map_size)
            self._space = Space(
                root, self._disk, self._index, map_size=self._state.map_size, keep_free=keep_free
            )
            with self._index.change() as change:
                if first:
                    change.sums.limit = limit
                if rebuild:
                    change.sums.unscanned = max(self._space.capacity(change.sums), 0)
                    change.sums.scan = 0
                elif change.sums.scan == 0 and change.sums.next == 0:
                    change.sums.scan = recovery.SCANNED
                self._me = change.add_owner(os.getpid())
                self._owners.take(self._me)
                recovery.bury(change, self._disk, self._owners, self._me)
            self._scan = rebuild
        self._thread = threading.Thread(target=self._maintain, name="lazyfs-cache", daemon=True)
        self._thread.start()

    # -- reading: no lock, no index --------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The whole value, every block checked; None if it is not here."""
        if self._off is not None:
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
        if key != self._last:
            self._touch(key)
        return value

    def read(self, key: bytes, offset: int, length: int) -> bytes | None:
        """Bytes [offset, offset + length) of a value, cut at its end. Only the 64 KiB blocks touched are read
        and checked. None if the value is not here."""
        if self._off is not None:
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
        if key != self._last:
            self._touch(key)
        return part

    def size(self, key: bytes) -> int | None:
        """The size of a value, without reading it; None if it is not here."""
        if self._off is not None:
            return None
        try:
            return self._disk.size(key)
        except OSError as error:
            self._fail(error)
            return None

    def _touch(self, key: bytes) -> None:
        self._last = key
        touched = self._touched
        if not touched or len(touched) == FLUSH_AT:
            self._wake.set()
        touched.append(key)

    def _unreadable(self, key: bytes, error: OSError | sealed.Damaged) -> None:
        if isinstance(error, OSError):
            self._fail(error)
            return
        _log.warning("cache %s: value %s is damaged (%s), evicting it", self.root, key.hex(), error)
        self._bad += 1
        self._misses += 1
        self._damaged.append(key)
        self._wake.set()

    # -- admitting -------------------------------------------------------------------------------------

    def reserve(self, key: bytes, size: int) -> Reservation | None:
        """Hold space for a value of `size` bytes before its download starts, evicting what is least recently
        used. None if there is no space that may be freed, or the lock is not had in time: go on uncached."""
        if self._off is not None or not 0 < len(key) <= layout.MAX_KEY:
            return None
        charge = self._disk.cost(size)
        deadline = time.monotonic() + self._timeout
        while True:
            with self._changing(deadline) as change:
                if change is None:
                    break
                if not self._space.possible(change, charge):
                    break
                need = self._space.need(change, charge)
                if not need:
                    return Reservation(self, change.intend(self._me, key, charge), key, size, charge)
                if not self._space.evict(change, need):
                    break
                if not self._space.need(change, charge):
                    self._space.spare(change, charge)
                    return Reservation(self, change.intend(self._me, key, charge), key, size, charge)
        self._refused += 1
        return None

    def put(self, key: bytes, value: bytes | memoryview, reservation: Reservation | None = None) -> bool:
        """Admit a value the caller has verified; True if it is here afterwards. A value that is here already
        under the key stays."""
        if self._off is not None:
            return False
        if reservation is not None and (reservation.key != key or reservation.size != len(value)):
            reservation.release()
            reservation = None
        held = reservation or self.reserve(key, len(value))
        if held is None:
            return False
        with held:
            done = self._store(held, key, value)
        if done:
            self._admitted += 1
        else:
            self._refused += 1
        return done

    def _store(self, held: Reservation, key: bytes, value: bytes | memoryview) -> bool:
        name = recovery.tmp_name(self._me, held.number)
        try:
            try:
                occupied = self._disk.write(name, key, value)
            except OSError as error:
                if error.errno not in _FULL or not self._relieve(held.charge):
                    raise
                occupied = self._disk.write(name, key, value)
        except OSError as error:
            self._fail(error)
            return False
        published = False
        with self._changing(time.monotonic() + self._timeout) as change:
            if change is not None:
                published = self._publish(change, held, name, key, len(value), occupied)
        done = published and change is not None and change.committed
        if done:
            held.keep()
        else:
            try:
                self._disk.discard_tmp(name)
            except OSError as error:
                self._fail(error)
        return done

    def _publish(
        self, change: Change, held: Reservation, name: str, key: bytes, size: int, occupied: int
    ) -> bool:
        if change.intent(held.number) is None:
            return False
        entry = change.entry(key)
        if entry is not None and self._disk.file_length(key) is not None:
            self._disk.discard_tmp(name)
            change.settle(held.number)
            return True
        if occupied > held.charge and self._space.need(change, occupied - held.charge):
            return False
        if entry is not None:
            change.forget(key, entry)
        self._disk.publish(name, key)
        self._space.count_folder(change, key)
        change.settle(held.number)
        change.insert(key, size, max(occupied, self._disk.rounded(size)))
        return True

    def _relieve(self, charge: int) -> bool:
        """The disk is full although the account says there is room: evict as much as is wanted."""
        with self._changing(time.monotonic() + self._timeout) as change:
            return change is not None and self._space.evict_bytes(change, charge) > 0

    def _release(self, number: int) -> None:
        """Give a reservation back now if the lock is free, otherwise with the next change."""
        self._releases.append(number)
        with self._changing(0):
            pass

    # -- one download per value --------------------------------------------------------------------------

    def claim(self, key: bytes) -> Claim | None:
        """The right to bring `key` here, for one thread of one process; None if another has it: `wait`, then
        look again. Look again after getting it, too: the value may have come in between."""
        if self._off is not None:
            return Claim()
        try:
            return self._claims.claim(key)
        except OSError as error:
            self._fail(error)
            return Claim()

    def wait(self, key: bytes, timeout: float) -> bool:
        """Wait until the claim on `key` ends, by release or by death; False after `timeout` seconds."""
        try:
            return self._claims.wait(key, timeout)
        except OSError as error:
            self._fail(error)
            return True

    # -- keeping and dropping ----------------------------------------------------------------------------

    def discard(self, key: bytes) -> None:
        """Evict one value, pinned or not; nothing happens if it is not here."""
        self._damaged.append(key)
        with self._changing(time.monotonic() + self._timeout):
            pass

    def pin(self, key: bytes, owner: bytes) -> bool:
        """Keep a value from being evicted until `unpin` or this process's end; False if it is not here.

        Raises PinSetTooLarge if all pinned values together would not leave room for anything else.
        """
        with self._changing(time.monotonic() + self._timeout) as change:
            if change is None:
                return False
            entry = change.entry(key)
            if entry is None or self._disk.file_length(key) is None:
                return False
            if not entry.pins and not self._space.pinnable(change, entry.charge):
                raise PinSetTooLarge(
                    f"cache {self.root}: pinned values would take {change.sums.pinned + entry.charge} of a "
                    f"limit of {change.sums.limit} bytes; unpin something or raise the limit"
                )
            change.add_pin(key, entry, self._me, owner)
            return True

    def unpin(self, key: bytes, owner: bytes) -> None:
        """Undo `pin`: the value goes back to its place in the order of use."""
        with self._changing(time.monotonic() + self._timeout) as change:
            if change is not None:
                change.drop_pin(key, self._me, owner)

    # -- looking -----------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """One look at the account; zeros where a cache that is off cannot say."""
        sums, charged, on_disk = self._sums()
        if sums is None:
            return Stats(
                state=f"off: {self._off}", limit=0, charged=0, pinned=0, reserved=0, index=0, entries=0,
                hits=self._hits, misses=self._misses, admitted=self._admitted, refused=self._refused,
                damaged=self._bad, evictions=0,
            )  # fmt: skip
        return Stats(
            state="on" if sums.scan == recovery.SCANNED else "rebuilding",
            limit=sums.limit, charged=charged, pinned=sums.pinned, reserved=sums.reserved, index=on_disk,
            entries=sums.entries, hits=self._hits, misses=self._misses, admitted=self._admitted,
            refused=self._refused, damaged=self._bad, evictions=sums.evictions,
        )  # fmt: skip

    def _sums(self) -> tuple[Sums | None, int, int]:
        if self._off is None:
            try:
                sums = self._index.sums()
                return sums, self._space.charged(sums), self._index.used()
            except (lmdb.Error, OSError) as error:
                self._fail(error)
        return None, 0, 0

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Every entry, by key; what changes meanwhile may or may not be seen."""
        after = b""
        while self._off is None:
            try:
                page = self._index.page(after, 1000)
            except lmdb.Error as error:
                self._fail(error)
                return
            if not page:
                return
            yield from page
            after = page[-1][0]

    # -- changing ----------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, deadline: float) -> Iterator[Change | None]:
        """One change: the lock, the transaction, and what was left to do. Yields None if the lock was not had
        by `deadline` or the cache is off. A failing disk ends the change without effect and turns the cache
        off."""
        with self._lock.held(max(deadline - time.monotonic(), 0)) as held:
            if not held or self._off is not None:
                yield None
                return
            releases, damaged = _take(self._releases), _take(self._damaged)
            try:
                with self._index.change() as change:
                    self._catch_up(change, releases, damaged)
                    yield change
            except BaseException as error:
                self._releases.extend(releases)
                self._damaged.extend(damaged)
                if not isinstance(error, (lmdb.Error, OSError)):
                    raise
                self._fail(error)

    def _catch_up(self, change: Change, releases: list[int], damaged: list[bytes]) -> None:
        for number in releases:
            intent = change.intent(number)
            if intent is not None:
                recovery.reconcile(change, self._disk, intent.key)
                change.settle(number)
        for key in damaged:
            self._disk.remove(key)
            recovery.reconcile(change, self._disk, key)
        touched = self._touched
        if touched:
            keys = dict.fromkeys(reversed(_take(touched)))
            self._last = b""
            for key in reversed(keys):
                change.touch(key)

    def _fail(self, error: OSError | lmdb.Error) -> None:
        if isinstance(error, (lmdb.DiskError, lmdb.MapFullError)):
            return  # LMDB's names for a full disk and a full map
        if isinstance(error, OSError) and error.errno in _FULL:
            return
        if self._off is None:
            self._off = str(error)
            _log.warning("cache %s: turned off, reads go on uncached: %s", self.root, error)

    # -- maintenance -------------------------------------------------------------------------------------

    def _maintain(self) -> None:
        if self._scan:
            self._rebuild()
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._off is not None:
                return
            if not self._damaged and len(self._touched) < FLUSH_AT and self._stop.wait(FLUSH_AFTER):
                return
            with self._changing(time.monotonic() + self._timeout):
                pass

    def _rebuild(self) -> None:
        for name in self._disk.tmp_names():
            owner = name.partition("-")[0]
            if not owner.isdecimal() or (int(owner) != self._me and not self._owners.taken(int(owner))):
                self._disk.discard_tmp(name)
        for directory in range(recovery.SCANNED):
            names = self._disk.names(directory)
            for start in range(0, max(len(names), 1), 256):
                with self._changing(time.monotonic() + 60) as change:
                    if change is None or self._stop.is_set():
                        return
                    recovery.adopt(change, self._disk, directory, names[start : start + 256])
                    change.sums.scan = directory
        with self._changing(time.monotonic() + 60) as change:
            if change is not None:
                change.sums.scan = recovery.SCANNED
                change.sums.unscanned = 0

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is outstanding; the last process to close leaves a clean mark."""
        with _registry_lock:
            holders = _registry.get(self.root)
            if holders is None or holders[0] is not self:
                return
            holders[1] -= 1
            if holders[1]:
                return
            del _registry[self.root]
        self._stop.set()
        self._wake.set()
        self._thread.join()
        with self._changing(time.monotonic() + self._timeout) as change:
            if change is not None:
                for label, key in change.pins_of(self._me):
                    change.drop_pin(key, self._me, label)
                change.drop_owner(self._me)
        with self._lock.held(self._timeout) as held:
            try:
                if held and self._off is None and self._presence.alone():
                    self._index.sync()
                    self._state.clean = True
                    state.save(self.root, self._state)
            except (lmdb.Error, OSError) as error:
                self._fail(error)
            self._off = self._off or "closed"
            self._index.close()
            self._presence.close()
        self._owners.close()
        self._claims.close()
        self._disk.close()
        self._lock.close()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _take(queue: "deque[T]") -> "list[T]":
    """Everything in the queue now, in order, taken out of it; other threads may go on appending."""
    return [queue.popleft() for _ in range(len(queue))]


_registry: dict[str, list] = {}  # type: ignore[type-arg]
_registry_lock = threading.Lock()


def open_cache(
    directory: str, limit: int, *, keep_free: int = 0, fsync: bool = False, lock_timeout: float = 2.0
) -> Cache:
    """Open or make the cache in `directory`; opened again in one process, it is the same one.

    limit: bytes of disk the directory may occupy, everything included. The first process to open the cache
    sets it; those that join take the limit in force. keep_free: bytes of the filesystem left free whatever
    the limit says. fsync: whether values are on the disk before they are admitted (a torn one is found by its
    checksums and evicted, so it need not be). lock_timeout: seconds a change waits for the lock before it is
    given up. Raises CacheError or its subclass UnusableDirectory.
    """
    root = os.path.realpath(directory)
    with _registry_lock:
        if root in _registry:
            _registry[root][1] += 1
            cache = _registry[root][0]
            assert isinstance(cache, Cache)
            return cache
        try:
            cache = Cache(root, limit, keep_free=keep_free, fsync=fsync, lock_timeout=lock_timeout)
        except (OSError, lmdb.Error) as error:
            raise UnusableDirectory(f"cache {directory}: {error}; give another directory") from error
        _registry[root] = [cache, 1]
        return cache
