"""Eviction policies by bytes, to compare them on traces: LRU, SIEVE and S3-FIFO.

SIEVE: Zhang et al., NSDI 2024. S3-FIFO: Yang et al., SOSP 2023, with a small queue of a tenth of the space
and as many ghosts as the main queue has entries. Both were designed for objects of equal size. Here, as in
the cache, eviction continues until the new object fits.
"""

from collections import OrderedDict, deque
from typing import Protocol


class Policy(Protocol):
    """A cache of `capacity` bytes. It holds only keys and sizes, no values."""

    def request(self, key: int, size: int) -> bool:
        """Requests a key. Returns True for a hit. After a miss, the key is in the cache, unless it is larger
        than the whole cache."""
        ...


class Lru:
    """Evicts the least recently used key first, as the cache does."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.used = 0
        self._entries: OrderedDict[int, int] = OrderedDict()

    def request(self, key: int, size: int) -> bool:
        if key in self._entries:
            self._entries.move_to_end(key)
            return True
        if size <= self._capacity:
            while self.used + size > self._capacity:
                self.used -= self._entries.popitem(last=False)[1]
            self._entries[key] = size
            self.used += size
        return False


class Sieve:
    """A queue in the order of arrival. A hand moves over the queue, and evicts keys that were not used since
    it last passed them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.used = 0
        self._size: dict[int, int] = {}
        self._used_since: dict[int, bool] = {}
        self._newer: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._newest = self._oldest = self._hand = -1

    def request(self, key: int, size: int) -> bool:
        if key in self._size:
            self._used_since[key] = True
            return True
        if size <= self._capacity:
            while self.used + size > self._capacity:
                self._evict()
            self._add(key, size)
        return False

    def _add(self, key: int, size: int) -> None:
        self._older[key], self._newer[key] = self._newest, -1
        if self._newest >= 0:
            self._newer[self._newest] = key
        self._newest = key
        if self._oldest < 0:
            self._oldest = key
        self._size[key] = size
        self._used_since[key] = False
        self.used += size

    def _evict(self) -> None:
        hand = self._hand if self._hand >= 0 else self._oldest
        while self._used_since[hand]:
            self._used_since[hand] = False
            hand = self._newer[hand] if self._newer[hand] >= 0 else self._oldest
        older, newer = self._older.pop(hand), self._newer.pop(hand)
        if older >= 0:
            self._newer[older] = newer
        else:
            self._oldest = newer
        if newer >= 0:
            self._older[newer] = older
        else:
            self._newest = older
        self._hand = newer
        self.used -= self._size.pop(hand)
        del self._used_since[hand]


class S3Fifo:
    """A small queue for new keys, a main queue for keys used again, and ghosts of keys evicted from the small
    queue."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._small_capacity = capacity // 10
        self.used = self._small_used = 0
        self._size: dict[int, int] = {}
        self._count: dict[int, int] = {}
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghosts: OrderedDict[int, None] = OrderedDict()

    def request(self, key: int, size: int) -> bool:
        if key in self._size:
            self._count[key] = min(self._count[key] + 1, 3)
            return True
        if size <= self._capacity:
            while self.used + size > self._capacity:
                self._evict()
            if key in self._ghosts:
                del self._ghosts[key]
                self._main.append(key)
            else:
                self._small.append(key)
                self._small_used += size
            self._size[key] = size
            self._count[key] = 0
            self.used += size
        return False

    def _evict(self) -> None:
        if self._small and (self._small_used > self._small_capacity or not self._main):
            key = self._small.popleft()
            self._small_used -= self._size[key]
            if self._count[key] > 1:
                self._main.append(key)
                self._count[key] = 0
                return
            self._ghosts[key] = None
            while len(self._ghosts) > max(len(self._main), 1):
                self._ghosts.popitem(last=False)
        else:
            key = self._main.popleft()
            if self._count[key] > 0:
                self._count[key] -= 1
                self._main.append(key)
                return
        self.used -= self._size.pop(key)
        del self._count[key]


POLICIES: dict[str, type[Lru | Sieve | S3Fifo]] = {"lru": Lru, "sieve": Sieve, "s3-fifo": S3Fifo}
