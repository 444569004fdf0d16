"""The ledger of one run: the fate of each image, in the state that the next run reads, and as events."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from lazyfs.sync.report import FAILED, MOVED, PUBLISHED, REMOVED, WAITING, Event
from lazyfs.sync.state import ImageState, State, WisherState
from lazyfs.sync.targets import Target, all_paths

FIRST_WAIT, LONGEST_WAIT = 15 * 60, 24 * 3600
"""Seconds after which an image that failed is tried again: doubled at each failure."""


class Arrival(NamedTuple):
    """An image that the next revision brings."""

    target: Target
    digest: str
    config: str
    size: int
    private: bool


class Ledger:
    """Notes the outcomes of a run: keeps the state, and collects events. Not safe for several threads."""

    def __init__(self, state: State, now: Callable[[], datetime]) -> None:
        self.state = state
        self._now = now
        self._arrivals: list[Arrival] = []
        self.events: list[Event] = []
        self.unchanged = 0

    @property
    def time(self) -> int:
        """The present time in seconds since 1970."""
        return int(self._now().timestamp())

    def image(self, place: str) -> ImageState | None:
        """Returns the state of an image; None if it is not known."""
        return self.state.images.get(place)

    def wished(self, targets: Iterable[Target], silent: Callable[[WisherState], bool]) -> None:
        """Notes the wishes that each image has now; a new image is known from here on.

        `silent`: returns True for an earlier wish that this run cannot ask about. Such a wish stays noted
        even if others wish the image now: otherwise it would be forgotten once the others no longer wish the
        image.
        """
        for target in targets:
            image = self.state.images.setdefault(target.place, ImageState())
            now = [WisherState(*one) for one in target.wished_by]
            said = {(one.list, one.wish) for one in now}
            before = [one for one in image.wishes if (one.list, one.wish) not in said and silent(one)]
            image.wishes = now + before

    def found_unchanged(
        self, target: Target, digest: str, config: str, *, asked: bool, private: bool
    ) -> None:
        """Notes that the tree has the image that the tag names. `private`: asking for it needed an account.
        The image may have been published by a run that was killed before it saved its state."""
        image = self._of(target)
        self.unchanged += 1
        image.digest, image.config = digest, config or image.config
        image.options, image.paths = target.options, all_paths(target, digest)
        image.private = image.private or private
        if asked:
            image.checked = self.time
        _forgive(image)

    def paths(self, *, without: Collection[str] = ()) -> set[str]:
        """Returns every path that the images of the next revision have, except those of the places
        `without`."""
        coming = {one.target.place: all_paths(one.target, one.digest) for one in self._arrivals}
        there = {place: image.paths for place, image in self.state.images.items() if image.digest}
        return {
            path for place, paths in {**there, **coming}.items() if place not in without for path in paths
        }

    def arrives(self, arrival: Arrival) -> None:
        """Notes that an image was put into the next revision."""
        self._arrivals.append(arrival)

    def committed(self, revision: int) -> None:
        """Notes that the revision with everything that arrived was committed."""
        for target, digest, config, size, private in self._arrivals:
            image = self._of(target)
            kind = MOVED if image.digest and image.digest != digest else PUBLISHED
            self._event(kind, target.place, digest=digest, before=image.digest, revision=revision)
            if image.digest != digest or not image.revision:
                image.published, image.revision = self.time, revision
            image.digest, image.config, image.size, image.private = digest, config, size, private
            image.options, image.paths = target.options, all_paths(target, digest)
            image.checked = self.time
            _forgive(image)
        self._arrivals.clear()

    def fails(self, target: Target, reason: str, digest: str = "") -> None:
        """Notes that an image could not be had; the version that the tree has of it stays."""
        image = self._of(target)
        new = not image.error
        image.failed = image.failed or self.time
        image.failures = min(image.failures + 1, 1000)
        image.error, image.failed_digest = reason, digest
        image.next_try = self.time + min(FIRST_WAIT << min(image.failures - 1, 10), LONGEST_WAIT)
        self._event(FAILED, target.place, digest=digest, reason=reason, new=new)

    def waits(self, target: Target) -> bool:
        """Returns True if the image failed lately and is not tried again yet."""
        image = self._of(target)
        if not image.error or self.time >= image.next_try:
            return False
        self._event(WAITING, target.place, digest=image.failed_digest, reason=image.error, new=False)
        return True

    def wish_fails(self, name: str, reason: str, owners: tuple[str, ...]) -> None:
        """Notes that the tags of a wish could not be found out."""
        self.events.append(Event(self.time, FAILED, name, reason=reason, owners=owners))

    def leaves(self, place: str, reason: str, revision: int) -> None:
        """Notes that an image was taken out of the tree."""
        image = self.state.images[place]
        self._event(REMOVED, place, before=image.digest, reason=reason, revision=revision)
        if image.wishes and image.error:
            image.digest, image.paths, image.revision, image.published, image.gone = "", [], 0, 0, 0
        else:
            del self.state.images[place]

    def forget_unknown(self, wished: Iterable[str]) -> None:
        """Drops images that no wish means and the tree does not have."""
        meant = set(wished)
        for place, image in list(self.state.images.items()):
            if place not in meant and not image.digest:
                del self.state.images[place]

    def would(self, kind: str, place: str, reason: str = "", digest: str = "") -> None:
        """Notes a change that a run would make, in a dry run."""
        before = self.state.images[place].digest if place in self.state.images else ""
        self._event(kind, place, digest=digest, before=before, reason=reason)

    def _of(self, target: Target) -> ImageState:
        return self.state.images.setdefault(target.place, ImageState())

    def _event(
        self,
        kind: str,
        place: str,
        *,
        digest: str = "",
        before: str = "",
        revision: int = 0,
        reason: str = "",
        new: bool = True,
    ) -> None:
        image = self.state.images.get(place, ImageState())
        owners = tuple(dict.fromkeys(one.owner for one in image.wishes if one.owner))
        self.events.append(Event(self.time, kind, place, digest, before, revision, reason, new, owners))


def _forgive(image: ImageState) -> None:
    image.error, image.failed, image.failures, image.failed_digest, image.next_try = "", 0, 0, "", 0
    image.gone = 0
