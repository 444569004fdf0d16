"""Fetches objects that no reader waits for yet: bounded, always behind the readers' own fetches, and equally
for all images that ask."""

import functools
import logging
from collections import Counter
from collections.abc import Hashable, Iterable

from lazyfs.client.objects import Objects
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.prefetch.fair_order import FairOrder
from lazyfs.prefetch.line_share import LineShare

log = logging.getLogger(__name__)

BYTES = 64 << 20
"""The largest number of plaintext bytes that one image has requested and that are not in the cache yet. If
several images ask, each has an equal part of it, and all together at most twice as much. Further objects are
dropped: the reader will ask for them."""


class PrefetchBudget:
    """The objects requested without a reader, and the bound on their bytes. Pure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes: Counter[Hashable] = Counter()
        """The bytes that each image has requested."""
        self.coming: dict[Digest, Hashable] = {}
        """For each object that was requested, the image for which it was requested first."""

    def has_room(self, ref: ObjectRef, image: Hashable) -> bool:
        """Returns True if the budget has room for the object too: an equal part for each image that asks."""
        asking = len(self._bytes) + (image not in self._bytes)
        total = self._bytes.total() + ref.size
        return self._bytes[image] + ref.size <= self._most // asking and total <= 2 * self._most

    def take(self, ref: ObjectRef, image: Hashable) -> None:
        """Charges an object that is about to be fetched."""
        self.coming[ref.digest] = image
        self._bytes[image] += ref.size

    def give_back(self, ref: ObjectRef) -> None:
        """Ends the charge: the object is in the cache, or its fetch failed."""
        image = self.coming.pop(ref.digest)
        self._bytes[image] -= ref.size
        if self._bytes[image] <= 0:
            del self._bytes[image]


class PrefetchQueue:
    """Fetches objects into the cache. Belongs to one trio run."""

    def __init__(self, objects: Objects, share: LineShare | None = None, *, most: int = BYTES) -> None:
        """`share`: the bounds that all repositories of the mount share. `most`: the largest number of
        plaintext bytes that are requested and not in the cache yet."""
        self._objects = objects
        self._share = LineShare() if share is None else share
        self._waiting: FairOrder[ObjectRef] = FairOrder()
        self._begun = 0
        self._beginning = False
        self._budget = PrefetchBudget(most)
        self.started = 0
        self.dropped = 0

    @property
    def idle(self) -> bool:
        """True if no object is under way."""
        return not self._budget.coming

    def start(self, refs: Iterable[ObjectRef], image: Hashable = None) -> None:
        """Begins to fetch the objects that are neither in the cache nor under way; returns at once. A reader
        of one of them joins its flight. A failure is not reported: the reader asks again and meets it.

        `image`: what the objects are fetched for; several images share the network line equally. Does nothing
        while the cache admits nothing: readers would have to fetch the bytes again.
        """
        for ref in refs:
            if ref.digest in self._budget.coming or not self._objects.keeps:
                continue
            if ref.digest in self._objects.expected:
                continue
            if not self._budget.has_room(ref, image):
                self.dropped += 1
                continue
            if self._objects.is_at_hand(ref):
                continue
            self._budget.take(ref, image)
            self.started += 1
            self._waiting.enter(image, ref, ref.size)
        self._go_on()

    def _go_on(self) -> None:
        """Begins the next objects, as far as the share has room. An object larger than the share is begun
        alone."""
        if self._beginning:
            return  # called by `_begin`: the loop below goes on
        self._beginning = True
        try:
            while self._begun < self._share.requests and (found := self._waiting.next()) is not None:
                ref, size = found
                alone = not self._begun
                if not self._share.allowance.take(size, self._go_on, alone=alone):
                    break
                self._waiting.take()
                self._begun += 1
                self._begin(ref)
        finally:
            self._beginning = False

    def _begin(self, ref: ObjectRef) -> None:
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
        self._begun -= 1
        self._share.allowance.give_back(ref.size)
        self._go_on()
