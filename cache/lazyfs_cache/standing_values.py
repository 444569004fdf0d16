"""The values that stand in a cache directory, to be read before the cache is opened.

Reading needs no index (`cache`), so a process that has to answer soon reads here first. Opening the cache
afterwards costs its modules, a lock and the index: 20 ms of processor time. Reads here do not count as uses.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext

from lazyfs_cache.errors import CacheError
from lazyfs_cache.files import directory, layout, state_file
from lazyfs_cache.files.ownership import check_way
from lazyfs_cache.files.sealed import Damaged
from lazyfs_cache.files.state_file import Policy
from lazyfs_cache.files.value_files import ValueFiles


class StandingValues:
    """The values of one cache directory. Thread-safe; made by `standing_values`."""

    def __init__(self, files: ValueFiles, limit: int, policy: Policy) -> None:
        self.limit = limit
        """The cache's limit, in bytes of disk, as last in force."""
        self.policy = policy
        """The order of eviction last in force."""
        self._files = files

    def get(self, key: bytes) -> bytes | None:
        """Returns the whole value, every block checked; None if it is not here, or cannot be read."""
        try:
            return self._files.whole(key)
        except (OSError, Damaged):  # the opened cache counts it, and evicts the value
            return None

    def read(self, key: bytes, offset: int, length: int, size: int | None = None) -> bytes | None:
        """Returns bytes [offset, offset + length) of a value, cut at its end; the blocks that are read are
        checked. Returns None if the value is not here, is not `size` bytes long, or cannot be read."""
        try:
            return self._files.part(key, offset, length, size)
        except (OSError, Damaged):
            return None

    def put(self, key: bytes, value: bytes | memoryview) -> bool:  # noqa: ARG002
        """Returns False: nothing is put before the cache is opened."""
        return False

    def put_many(self, values: Sequence[tuple[bytes, bytes | memoryview]]) -> list[bool]:
        return [False] * len(values)

    def claim(self, key: bytes, waited: float = 0.0) -> "nullcontext[None]":  # noqa: ARG002
        """Returns a claim that holds nothing."""
        return nullcontext()

    def claim_many(self, keys: Sequence[bytes]) -> "list[nullcontext[None]]":
        return [nullcontext() for _ in keys]

    def wait(self, key: bytes, timeout: float, waited: float = 0.0) -> bool:  # noqa: ARG002
        return True

    def close(self) -> None:
        """Closes the open cache directory. No read may be under way."""
        self._files.close()


def standing_values(path: str) -> StandingValues | None:
    """Returns the values in the cache directory at `path`. First checks, as the opening of a cache does, that
    no other user could have prepared the directory. Returns None if there is no cache, or none that may be
    used: opening it tells why."""
    root = os.path.realpath(path)
    try:
        check_way(path)
        directory.prepare(root, new=False)
        state = state_file.load(root)
        if state is None or state.format != layout.FORMAT:
            return None
        return StandingValues(ValueFiles(root, fsync=False), state.limit, state.policy)
    except (OSError, CacheError):
        return None
