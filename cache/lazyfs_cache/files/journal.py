"""What a process was doing to files under data/, for whoever has to clean up after it.

A file in tmp/, named by its process's owner number. It names a key before the key's file comes or goes, and
goes on naming it until the index says the same, so after a process's death every key that may be out of step
is in it. It need not reach the disk: it matters only while the machine runs.

    arrivals   SLOTS slots of 128 bytes: length of the key (1), key; empty ones have length 0
    removals   of the change under way: length (1), key, one after the other; length 0 ends them
"""

import os
from collections.abc import Iterable

from lazyfs_cache.files import layout

SLOTS = 32
"""Values a process may have on their way at one time."""

POOL = 64
"""Files of evicted values that are kept to be written over: temporary files with slots of their own."""

_SLOT = 128
_REMOVALS = SLOTS * _SLOT

SIZE = 3 << 12
"""Bytes of a journal: room for 67 removals of the longest keys, 248 of 32 bytes."""


def name(owner: int) -> str:
    return str(owner)


def tmp_name(owner: int, slot: int) -> str:
    """The temporary file of a slot."""
    return f"{owner}-{slot}"


def owner_of(tmp: str) -> int | None:
    """Whose journal or temporary file a name in tmp/ is; None if it is neither."""
    owner = tmp.partition("-")[0]
    return int(owner) if owner.isdecimal() else None


class Journal:
    """The journal of this process. Methods raise OSError."""

    def __init__(self, root: str, owner: int) -> None:
        path = os.path.join(root, layout.TMP, name(owner))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, bytes(SIZE), 0)
        self._end = _REMOVALS

    def arriving(self, slot: int, key: bytes) -> None:
        """`key` is about to get a file."""
        os.pwrite(self._fd, bytes((len(key),)) + key, slot * _SLOT)

    def begin(self) -> None:
        """A change begins: the last one's removals are over. Hold the change lock."""
        self._end = _REMOVALS

    def removing(self, keys: Iterable[bytes]) -> int:
        """The first of `keys`, as many as there is room for, are about to lose their files; returns how many
        those are. Within a change."""
        room = SIZE - self._end - 1
        rows = bytearray()
        count = 0
        for key in keys:
            if len(rows) + len(key) + 1 > room:
                break
            rows.append(len(key))
            rows += key
            count += 1
        if count:
            os.pwrite(self._fd, rows + b"\0", self._end)
            self._end += len(rows)
        return count

    def close(self) -> None:
        os.close(self._fd)


def read(root: str, owner: int) -> list[bytes]:
    """The keys in a process's journal; none if it has none."""
    try:
        with open(os.path.join(root, layout.TMP, name(owner)), "rb") as file:
            data = file.read(SIZE)
    except FileNotFoundError:
        return []
    keys = [data[start + 1 : start + 1 + data[start]] for start in range(0, min(len(data), _REMOVALS), _SLOT)]
    place = _REMOVALS
    while place < len(data) and data[place]:
        keys.append(data[place + 1 : place + 1 + data[place]])
        place += 1 + data[place]
    return [key for key in keys if key]
