"""The bytes that may be fetched on a guess, and the outcome of the guesses. Pure. Files are told apart by
their content ids (`Entry.content_id`).

A guess that is used gives its bytes back to the budget. So guessing goes on while it is right, and ends when
it is wrong: the unused bytes stay below a share of the bytes that were asked for.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from lazyfs.core.digest import Digest, ObjectRef

FREE: Final = 4 << 20
"""Plaintext bytes of unused guesses that are allowed in any case, even if no bytes were asked for yet."""
SHARE: Final = 0.05
"""Bytes of unused guesses that are allowed in addition, for each byte that was asked for. With this share, a
start may fetch a quarter more bytes than if each file were an object of its own; a fifth more is due to the
packs alone."""
REMEMBERED: Final = 1 << 16
"""The largest number of guessed objects that are watched for their first use."""
FILES: Final = 4096
"""The largest number of files that are remembered because a guessed object of them was used."""


class GuessCounts(NamedTuple):
    """The fetches on a guess so far. Bytes are plaintext."""

    objects: int
    bytes: int
    used_objects: int
    """The number of guessed objects that were read later."""
    used_bytes: int
    dropped: int
    """The number of guesses that were not fetched: over the budget, or without room in the cache."""


class Guessed(NamedTuple):
    """An object that was fetched on a guess."""

    size: int
    file: bytes
    """Content id of the file that was guessed whole; empty for another object."""


class GuessBudget:
    """The budget of one repository. Not thread-safe, but every thread may look into `unused`."""

    def __init__(self) -> None:
        self._asked = 0
        self._objects = self._bytes = self._used_objects = self._used_bytes = 0
        self.dropped = 0
        self.unused: OrderedDict[Digest, Guessed] = OrderedDict()
        """The guessed objects that nobody has read."""
        self._of_file: dict[bytes, list[Digest]] = {}
        """The objects of each file that are in `unused`, by the file's content id."""
        self._used_files: OrderedDict[bytes, None] = OrderedDict()

    @property
    def outstanding(self) -> int:
        """Bytes of guessed objects that were fetched or are under way, and that nobody has read."""
        return self._bytes - self._used_bytes

    def asked(self, size: int) -> None:
        """Counts bytes that a reader had to wait for."""
        self._asked += size

    def has_room(self, ref: ObjectRef, most: int) -> bool:
        """Returns True if the object may be fetched. `most`: the largest number of bytes that unused guesses
        may occupy in the cache."""
        return self.outstanding + ref.size <= min(FREE + SHARE * self._asked, most)

    def take(self, ref: ObjectRef, file: bytes = b"") -> None:
        """Charges an object that is about to be fetched. `file`: the content id of the file, if the file is
        guessed whole. As soon as one object of the file is used, all of them count as used: a miss of that
        one would have brought the file's other objects too (`programs`)."""
        self._objects += 1
        self._bytes += ref.size
        self.unused[ref.digest] = Guessed(ref.size, file)
        if file:
            self._of_file.setdefault(file, []).append(ref.digest)
            if file in self._used_files:
                self.used(ref.digest)
        if len(self.unused) > REMEMBERED:
            self._forget(next(iter(self.unused)))

    def give_back(self, ref: ObjectRef) -> None:
        """Cancels the charge of an object whose fetch failed."""
        if self._forget(ref.digest) is not None:
            self._objects -= 1
            self._bytes -= ref.size

    def used(self, digest: Digest) -> None:
        """Counts the first use of a guessed object; does nothing for other objects."""
        guessed = self.unused.get(digest)
        if guessed is None:
            return
        if guessed.file:
            self._used_files[guessed.file] = None
            if len(self._used_files) > FILES:
                self._used_files.popitem(last=False)
        for one in list(self._of_file.get(guessed.file, ())) or [digest]:
            found = self._forget(one)
            if found is not None:
                self._used_objects += 1
                self._used_bytes += found.size

    def _forget(self, digest: Digest) -> Guessed | None:
        found = self.unused.pop(digest, None)
        if found is not None and found.file:
            of_file = self._of_file[found.file]
            of_file.remove(digest)
            if not of_file:
                del self._of_file[found.file]
        return found

    def counts(self) -> GuessCounts:
        """Returns the counts so far."""
        return GuessCounts(self._objects, self._bytes, self._used_objects, self._used_bytes, self.dropped)


def room_in(space: tuple[int, int] | None) -> int:
    """Returns the bytes that unused guesses may occupy: the cache's free space less a margin, so that nothing
    is evicted for them. In a full cache it is a small share, for which least recently used values are
    evicted. `space`: (limit, occupied) in bytes; None without a cache."""
    if space is None:
        return 0
    limit, occupied = space
    return max(limit - occupied - limit // 20, limit // 64)
