"""How much may be fetched on a guess, and what became of it. Pure.

A guess that is used pays itself back. So guessing goes on where it is right, and ends where it is wrong: the
bytes that nobody has used stay below a share of what was asked for.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from lazyfs.core.digest import Digest, ObjectRef

FREE: Final = 4 << 20
"""Plaintext bytes that may lie unused before anything was asked for."""
SHARE: Final = 0.2
"""Unused bytes for each byte that was asked for; a start may fetch 1.25 times what it did without guesses."""
REMEMBERED: Final = 1 << 16
"""Guessed objects that are watched for their first use."""


class GuessCounts(NamedTuple):
    """What was fetched on a guess so far. Bytes are plaintext."""

    objects: int
    bytes: int
    used_objects: int
    """Of these, the ones that were read later."""
    used_bytes: int
    dropped: int
    """Guesses that were not fetched: over budget, or no room in the cache."""


class GuessBudget:
    """The budget of one repository. `used` is called from reader threads under the tree's lock, everything
    else in the event loop."""

    def __init__(self) -> None:
        self._asked = 0
        self._objects = self._bytes = self._used_objects = self._used_bytes = 0
        self.dropped = 0
        self.unused: OrderedDict[Digest, int] = OrderedDict()
        """The guessed objects that nobody has read, with their sizes."""

    @property
    def outstanding(self) -> int:
        """Bytes that were fetched or are under way, and that nobody has read."""
        return self._bytes - self._used_bytes

    def asked(self, size: int) -> None:
        """Counts bytes that a reader had to wait for."""
        self._asked += size

    def has_room(self, ref: ObjectRef, most: int) -> bool:
        """Returns True if the object may be fetched. `most`: unused bytes that the cache may hold."""
        return self.outstanding + ref.size <= min(FREE + SHARE * self._asked, most)

    def take(self, ref: ObjectRef) -> None:
        """Charges an object that is about to be fetched."""
        self._objects += 1
        self._bytes += ref.size
        self.unused[ref.digest] = ref.size
        if len(self.unused) > REMEMBERED:
            self.unused.popitem(last=False)

    def give_back(self, ref: ObjectRef) -> None:
        """Takes the charge back: the fetch failed."""
        if self.unused.pop(ref.digest, None) is not None:
            self._objects -= 1
            self._bytes -= ref.size

    def used(self, digest: Digest) -> None:
        """Counts the first use of a guessed object; does nothing for other objects."""
        size = self.unused.pop(digest, None)
        if size is not None:
            self._used_objects += 1
            self._used_bytes += size

    def counts(self) -> GuessCounts:
        """Returns the counts so far."""
        return GuessCounts(self._objects, self._bytes, self._used_objects, self._used_bytes, self.dropped)


def room_in(space: tuple[int, int] | None) -> int:
    """Returns the bytes that guesses may occupy unused: what is free in the cache, less a margin, so that
    nothing goes for them; in a full cache a small share, for which the coldest goes. `space`: (limit,
    occupied) in bytes; None without a cache."""
    if space is None:
        return 0
    limit, occupied = space
    return max(limit - occupied - limit // 20, limit // 64)
