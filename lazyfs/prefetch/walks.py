"""Readers on their way through an image, file after file: an archiver, a copy, a search. Pure.

An image's order is that of its tree (`vfs.walk_order`), in which packs and the chunks of large files take
turns. A miss near behind another one in this order is a step, and PROOF steps in a row show a reader on its
way. What comes then is fetched ahead: a window of bytes that grows with what is read of it, so that no more
is fetched in vain than was read. A reader of a whole image of 351 MB, at 50 ms, waits for 86 requests and
not for 487. Programs that import modules go from one directory to the next too, but not as far: with three
steps of up to three files as proof, a start of an analysis fetched 28 objects in vain; with four steps of up
to two files, none.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.vfs.walk_order import Step

Onward = Iterator[Step | None]
"""The objects on the way from a file on; None for a pause, after which the iterator goes on."""

REACH: Final = 2
"""The number of files, of those that are missing here, among which the next missed one must be."""
PROOF: Final = 4
"""The number of such steps in a row that show a reader on its way."""
FIRST: Final = 2 << 20
"""Bytes fetched ahead of a reader that has just turned out to be on its way: about two packs."""
MOST: Final = 32 << 20
"""The largest number of bytes fetched ahead of one reader: as stored, some 0.8 s of a line of 100 Mbit/s. It
is half of what the queue takes, which drops what is beyond (`queue.BYTES`)."""
BEHIND: Final = 16
"""The number of objects behind a reader that still count as its own: the kernel reads ahead, out of order."""
WALKS: Final = 16
"""The largest number of readers that are followed; the one whose last step is longest ago is forgotten."""


class _Walk:
    """One reader, or a miss that may be the first of one."""

    def __init__(self, at: Digest, onward: Onward) -> None:
        self.behind = deque([at])
        """The objects on the way that were read or passed last, up to BEHIND of them."""
        self.steps = 0
        self.onward = onward
        self.coming: deque[Step] = deque()
        """The next objects on the way."""
        self.asked = 0
        """The number of the first ones among `coming` that were returned to be fetched."""
        self.bytes = 0
        """The bytes of these."""
        self.window = FIRST
        self.paused = False
        """True if `coming` has less than is wanted because `onward` has paused or ended."""

    @property
    def is_proven(self) -> bool:
        return self.steps >= PROOF

    def next(self) -> Step | None:
        """Returns the next object on the way; None at a pause or at the end."""
        step = next(self.onward, None)
        self.paused = step is None
        return step


class Walks:
    """The readers on their way through the images of one repository. Not thread-safe: call it under the
    tree's lock."""

    def __init__(self) -> None:
        self._walks: OrderedDict[_Walk, None] = OrderedDict()
        self._on_way: dict[Digest, _Walk] = {}
        """For each object that was read last by a reader, or that comes next, the reader."""

    def read(self, ref: ObjectRef) -> list[ObjectRef]:
        """Notes a read of an object, missed or not. Returns the objects to fetch ahead."""
        if not self._on_way:
            return []
        walk = self._on_way.get(ref.digest)
        if walk is None or not walk.is_proven:
            return []
        if ref.digest in walk.behind:
            return self._ahead(walk) if walk.paused else []
        if self._go_to(walk, ref.digest) > REACH:
            walk.window = max(walk.window // 2, FIRST)
        else:
            walk.window = min(walk.window + ref.size, MOST)
        return self._ahead(walk)

    def missed(self, ref: ObjectRef, onward: Callable[[], Onward]) -> list[ObjectRef]:
        """Notes a read of an object that has to wait, after `read`. `onward` returns the objects on the way
        from the file on that is read. Returns the objects to fetch ahead."""
        found = [] if ref.digest in self._on_way else self._after_pauses()
        walk = self._on_way.get(ref.digest)
        if walk is None:
            self._begin(ref.digest, onward())
        elif walk.is_proven:
            found += self.read(ref)
        elif ref.digest not in walk.behind:
            walk.steps += self._go_to(walk, ref.digest) > 0  # a further chunk of the same file is no step
            found += self._wanted(walk)
        return found

    def _after_pauses(self) -> list[ObjectRef]:
        return [ref for walk in self._walks if walk.paused and walk.is_proven for ref in self._ahead(walk)]

    def _wanted(self, walk: _Walk) -> list[ObjectRef]:
        """Looks as far on the way as is useful. Returns the objects to fetch ahead."""
        if walk.is_proven:
            return self._ahead(walk)
        self._look_around(walk)
        return []

    def _begin(self, digest: Digest, onward: Onward) -> None:
        walk = _Walk(digest, onward)
        self._walks[walk] = None
        self._on_way[digest] = walk
        self._look_around(walk)
        if len(self._walks) > WALKS:
            old, _ = self._walks.popitem(last=False)
            for left in (*old.behind, *(step.ref.digest for step in old.coming)):
                self._leave(old, left)

    def _leave(self, walk: _Walk, digest: Digest) -> None:
        if self._on_way.get(digest) is walk:
            del self._on_way[digest]

    def _go_to(self, walk: _Walk, digest: Digest) -> int:
        """Moves a walk to an object that comes on its way. Returns the number of files on the way to it, its
        own among them."""
        self._walks.move_to_end(walk)
        files = 0
        while True:
            step = walk.coming.popleft()
            files += step.first
            if walk.asked:
                walk.asked -= 1
                walk.bytes -= step.ref.size
            walk.behind.append(step.ref.digest)
            if len(walk.behind) > BEHIND:
                self._leave(walk, walk.behind.popleft())
            if step.ref.digest == digest:
                return files

    def _look_around(self, walk: _Walk) -> None:
        """Looks for the files among which the next missed one shows that a reader is on its way."""
        files, size = sum(step.first for step in walk.coming), sum(step.ref.size for step in walk.coming)
        while files < REACH and size < MOST and (step := self._look(walk)) is not None:
            files += step.first
            size += step.ref.size

    def _ahead(self, walk: _Walk) -> list[ObjectRef]:
        """Returns the objects that the window has room for."""
        found = []
        while walk.bytes < walk.window:
            if walk.asked == len(walk.coming) and self._look(walk) is None:
                break
            ref = walk.coming[walk.asked].ref
            walk.asked += 1
            walk.bytes += ref.size
            found.append(ref)
        return found

    def _look(self, walk: _Walk) -> Step | None:
        """Adds the next object to those that come on the way of a walk, and returns it. A walk ends where
        another reader is on its way already, and goes through the place of one who may not be."""
        while (step := walk.next()) is not None:
            other = self._on_way.get(step.ref.digest)
            if other is None or (walk.is_proven and not other.is_proven):
                self._on_way[step.ref.digest] = walk
                walk.coming.append(step)
                return step
            if other is not walk:
                walk.onward = iter(())
                return None
        return None
