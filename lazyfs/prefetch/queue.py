"""Fetches objects that no reader waits for yet: bounded, and always behind the readers' own fetches."""

import functools
import logging
from collections.abc import Iterable

from lazyfs.client.objects import UNDER_WAY, Objects
from lazyfs.client.under_way import UnderWay
from lazyfs.core.digest import Digest, ObjectRef

log = logging.getLogger(__name__)

TASKS = 24
"""Most requests under way without a reader. Readers have the rest of `objects.THREADS`."""
BYTES = 64 << 20
"""Most plaintext bytes requested and not here yet. Further objects are dropped: the reader will ask for
them."""

SHARE = UNDER_WAY * 3 // 4
"""Most plaintext bytes under way without a reader: TASKS chunks of 1 MiB. With larger chunks, as many would
fill UNDER_WAY, and a reader's own chunk would wait until all of them are here."""


class PrefetchBudget:
    """The objects under way without a reader, and the bound on their bytes. Pure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self.coming: set[Digest] = set()

    def has_room(self, ref: ObjectRef) -> bool:
        """Returns True if the budget has room for the object too."""
        return self._bytes + ref.size <= self._most

    def take(self, ref: ObjectRef) -> None:
        """Charges an object that is about to be fetched."""
        self.coming.add(ref.digest)
        self._bytes += ref.size

    def give_back(self, ref: ObjectRef) -> None:
        """Ends the charge: the object is here, or its fetch failed."""
        self.coming.discard(ref.digest)
        self._bytes -= ref.size


class PrefetchQueue:
    """Fetches objects into the cache. Belongs to one trio run."""

    def __init__(self, objects: Objects, *, tasks: int = TASKS, most: int = BYTES) -> None:
        """`most`: most plaintext bytes requested and not here yet."""
        self._objects = objects
        self._under_way: UnderWay[ObjectRef] = UnderWay(tasks, SHARE, self._begin)
        self._budget = PrefetchBudget(most)
        self.started = 0
        self.dropped = 0

    @property
    def idle(self) -> bool:
        """True if no object is under way."""
        return not self._budget.coming

    def start(self, refs: Iterable[ObjectRef]) -> None:
        """Begins to fetch the objects that are neither here nor under way; returns at once. A reader of one
        of them joins its flight. A failure is not reported: the reader asks again and meets it.

        Does nothing while the cache admits nothing: readers would have to fetch the bytes again.
        """
        for ref in refs:
            if ref.digest in self._budget.coming or not self._objects.keeps:
                continue
            if ref.digest in self._objects.expected:
                continue
            if not self._budget.has_room(ref):
                self.dropped += 1
                continue
            if self._objects.read_at_hand(ref, 0, 1) is not None:
                continue
            self._budget.take(ref)
            self.started += 1
            self._under_way.enter(ref, ref.size)

    def _begin(self, ref: ObjectRef, _: int) -> None:
        begun = False
        try:
            begun = self._objects.bring(ref, functools.partial(self._ended, ref))
        except Exception:  # called by trio, whose run an error would end
            log.exception("object %s", ref.digest.hex())
        if not begun:
            self.started -= 1
            self._ended(ref)

    def _ended(self, ref: ObjectRef) -> None:
        self._budget.give_back(ref)
        self._under_way.ended(ref.size)
