"""A process's journal: the keys whose files it is adding or removing, for the process that cleans up after
it.

The journal is a file in tmp/, named by its process's owner number. A key is in the journal from before its
file is added or removed until the index agrees. So after a process's death, the journal has every key whose
file and entry may disagree. Journals need not reach the disk: they matter only while the machine runs.

    arrivals   SLOTS slots of 128 bytes: length of the key (1), key; empty ones have length 0
    removals   of the transaction under way: length (1), key, one after the other; length 0 ends them
"""

import os
import threading
from collections.abc import Iterable, Sequence

from lazyfs_cache.files import layout

SLOTS = 32
"""The largest number of values that one process may be storing at one time."""

SPARES = range(SLOTS, SLOTS + 64)
"""Slots (numbers) of spare files, which are files of evicted values, kept to be written over. No journal
lists these slots."""

_SLOT = 128
_REMOVALS = SLOTS * _SLOT

SIZE = 3 << 12
"""Bytes of a journal: room for 67 removals of the longest keys, 248 of 32 bytes."""


def name(owner: int) -> str:
    """Returns the name of a process's journal in tmp/."""
    return str(owner)


def tmp_name(owner: int, slot: int) -> str:
    """Returns the name in tmp/ of the file that has this slot: of a value on its way, or a spare file."""
    return f"{owner}-{slot}"


def owner_of(tmp: str) -> int | None:
    """Returns the owner number of the process whose journal or temporary file has this name in tmp/; None for
    any other name."""
    owner = tmp.partition("-")[0]
    return int(owner) if owner.isdecimal() else None


class Journal:
    """The journal of this process in one generation of the index. Methods raise OSError."""

    def __init__(self, root: str, owner: int) -> None:
        path = os.path.join(root, layout.TMP, name(owner))
        self._guard = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        os.pwrite(self._fd, bytes(SIZE), 0)
        self._end = _REMOVALS

    def arriving(self, slots: Sequence[int], keys: Sequence[bytes]) -> bool:
        """Notes that keys are about to get files, each key in its slot of the journal. Returns False if the
        journal is closed because its generation is over."""
        rows = [bytes((len(key),)) + key for key in keys]
        # Without the lock, another thread might close the journal meanwhile, and its descriptor become
        # another file's.
        with self._guard:
            if self._fd < 0:
                return False
            if list(slots) == list(range(slots[0], slots[0] + len(slots))):
                os.pwrite(self._fd, b"".join(row.ljust(_SLOT, b"\0") for row in rows), slots[0] * _SLOT)
            else:
                for slot, row in zip(slots, rows, strict=True):
                    os.pwrite(self._fd, row, slot * _SLOT)
        return True

    def begin(self) -> None:
        """Begins a transaction: the removals of the last one are over. The caller holds the index lock."""
        self._end = _REMOVALS

    def removing(self, keys: Iterable[bytes]) -> int:
        """Notes that the first of `keys`, as many as fit into the journal, are about to lose their files.
        Returns their number. Called within a transaction."""
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
        """Closes the journal; the second call does nothing."""
        with self._guard:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read(root: str, owner: int) -> list[bytes]:
    """Returns the keys in a process's journal; empty if it has none."""
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
