"""Finds every object that the kept revisions lead to, by walking from their root catalogs and histories."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import BadData, FormatError, NotFound
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, history_at, leads_to
from lazyfs.repository.kept_revisions import KeptRevision
from lazyfs.store import Store, reader

WORKERS = 8
"""The number of threads that read: in a bucket each read waits for a round trip."""
AHEAD = 64
MOST_PROBLEMS = 100
_PIECE = 1024
"""The use of a pack is counted in pieces of this many bytes."""


class MostlyDead(msgspec.Struct):
    """Packs in which kept revisions use less than half of the bytes. Packs are never rewritten: a pack is
    deleted once no image needs any of its files."""

    packs: int = 0
    bytes: int = 0
    """Plaintext bytes of these packs."""
    unused: int = 0
    """Plaintext bytes of these packs that no kept revision needs."""


class Marked:
    """The objects reached so far. A second call of `mark` adds those of newer revisions.

    An object that is certainly missing is recorded as a problem; the objects that only it led to are not
    marked. Any other failure of a read is raised.
    """

    def __init__(self, store: Store, advance: Callable[[int], object] = lambda _objects: None) -> None:
        """`advance` is called with the number of objects marked so far."""
        self._read_object = reader(store)
        self._advance = advance
        self._seen = Seen()
        self.reached: set[Digest] = set()
        self.missing = 0
        """Number of catalogs, chunk lists, profiles and parts of histories that are not in the store."""
        self.problems: list[str] = []
        self._packs: dict[ObjectRef, int] = {}
        """Maps a pack to an integer in which one bit stands for each piece, set if the piece is used. This
        takes some 256 bytes a pack; sets of the used files of a large repository would not fit into
        memory."""

    def mark(self, kept: Iterable[KeptRevision]) -> None:
        """Marks the objects that these revisions lead to. Raises StoreError, BadData."""
        waiting: list[Reached] = []
        for revision in kept:
            starts = [catalog_at(revision.past.root)]
            starts += [history_at(revision.history)] if revision.history else []
            waiting += [start for start in starts if self._first(start)]
        running: deque[tuple[Reached, Future[bytes | None]]] = deque()
        with ThreadPoolExecutor(WORKERS, "mark") as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < AHEAD:
                        found = waiting.pop()
                        running.append((found, pool.submit(self._read, found)))
                    found, future = running.popleft()
                    plain = future.result()
                    if plain is not None:
                        below = leads_to(found, plain, profiles=True)
                        waiting.extend(one for one in below if self._first(one) and one.leads_on)
                    self._advance(len(self.reached))
            finally:
                pool.shutdown(cancel_futures=True)

    def mark_objects(self, digests: Iterable[Digest]) -> None:
        """Marks objects that lead to no other objects."""
        self.reached.update(digests)

    def mostly_dead(self) -> "MostlyDead":
        """Returns the totals of the packs in which less than half of the bytes is used."""
        dead = MostlyDead()
        for ref, used in self._packs.items():
            live = used.bit_count() * _PIECE
            if 2 * live < ref.size:
                dead.packs += 1
                dead.bytes += ref.size
                dead.unused += ref.size - live
        return dead

    def _first(self, found: Reached) -> bool:
        self.reached.add(found.ref.digest)
        if found.kind == ObjectKind.PACK and found.file_size:
            first, last = found.start // _PIECE, (found.start + found.file_size - 1) // _PIECE
            piece = (1 << (last - first + 1)) - 1
            self._packs[found.ref] = self._packs.get(found.ref, 0) | (piece << first)
        return self._seen.first(found)

    def _read(self, found: Reached) -> bytes | None:
        try:
            return self._read_object(found.ref)
        except NotFound:
            self.missing += 1
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(f"{_shown(found)} is not there")
            return None
        except BadData as error:
            raise FormatError(
                f"{_shown(found)}: {error}; what it should lead to is unknown, so nothing is collected: "
                "see lazyfs check"
            ) from error


def _shown(found: Reached) -> str:
    path = found.path.decode(errors="backslashreplace")
    return f"{path or '/'}: {found.kind} {found.ref.digest.hex()}"
