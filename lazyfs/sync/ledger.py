"""The ledger of one run: records what happens to each image, in the state for the next run and as events."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from lazyfs.sync.acknowledged import NOBODY, Acknowledged
from lazyfs.sync.report import FAILED, MOVED, PUBLISHED, REMOVED, WAITING, Event
from lazyfs.sync.state import ImageState, State, WisherState
from lazyfs.sync.targets import Target, all_paths

FIRST_WAIT, LONGEST_WAIT = 15 * 60, 24 * 3600
"""Seconds after which a failed image is tried again: the wait after the first failure, and the longest wait.
The wait doubles at each failure."""


class Arrival(NamedTuple):
    """An image that is put into the next revision."""

    target: Target
    digest: str
    config: str
    size: int
    private: bool


class News(NamedTuple):
    """An event that has not been announced yet."""

    event: Event
    public: bool
    """True if the image's name is no secret: everybody may read the image in the tree, or could before."""


class Ledger:
    """Records the outcomes of a run: updates the state, and collects events. Not safe for several threads."""

    def __init__(
        self, state: State, now: Callable[[], datetime], acknowledged: Acknowledged = NOBODY
    ) -> None:
        self.state = state
        self.now = now
        self._acknowledged = acknowledged
        self._arrivals: list[Arrival] = []
        self._public: set[str] = set()
        self._told = 0
        self._failing_wishes: dict[str, int] = {}
        self.events: list[Event] = []
        self.unchanged = 0

    @property
    def time(self) -> int:
        """The present time in seconds since 1970."""
        return int(self.now().timestamp())

    def image(self, place: str) -> ImageState | None:
        """Returns the state of the image at a place; None if it is not known."""
        return self.state.images.get(place)

    def wished(self, targets: Iterable[Target], silent: Callable[[WisherState], bool]) -> None:
        """Notes the present wishes of each target's image; adds new images to the state.

        `silent`: returns True for an earlier wish if this run cannot tell what that wish means now. Such a
        wish stays noted beside the present wishes; without it, the image would leave as soon as no present
        wish names it.
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
        """Notes that the tree already has the image that the tag names. The image may be new to the state, if
        a run has published it and was killed before it saved the state. `asked`: True if the registry was
        asked now. `private`: True if only an account may read the image."""
        image = self._of(target)
        self.unchanged += 1
        image.digest, image.config = digest, config or image.config
        image.options, image.paths = target.options, all_paths(target, digest)
        image.private = image.private or private
        if asked:
            image.checked = self.time
        _forgive(image)

    def paths(self, *, without: Collection[str] = ()) -> set[str]:
        """Returns every path that belongs to an image of the next revision; images at the places `without` do
        not count."""
        coming = {one.target.place: all_paths(one.target, one.digest) for one in self._arrivals}
        there = {place: image.paths for place, image in self.state.images.items() if image.digest}
        return {
            path for place, paths in {**there, **coming}.items() if place not in without for path in paths
        }

    def arrives(self, arrival: Arrival) -> None:
        """Notes that an image was put into the next revision."""
        self._arrivals.append(arrival)

    def committed(self, revision: int) -> None:
        """Notes that this revision was committed, with every image that arrived."""
        for target, digest, config, size, private in self._arrivals:
            image = self._of(target)
            if not private:
                self._public.add(target.place)
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
        """Notes that an image could not be fetched. The version of it that is in the tree stays."""
        image = self._of(target)
        new = not image.error
        image.failed = image.failed or self.time
        image.failures = min(image.failures + 1, 1000)
        image.error, image.failed_digest = reason, digest
        image.next_try = self.time + min(FIRST_WAIT << min(image.failures - 1, 10), LONGEST_WAIT)
        self._event(FAILED, target.place, digest=digest, reason=reason, new=new)

    def has_no_room(self, target: Target, reason: str, digest: str, size: int) -> None:
        """Notes that an image was read but is too large for its owners' quotas. If the tree has no earlier
        version of it, keeps its size, so that the next run refuses the image before reading it."""
        self.fails(target, reason, digest)
        image = self._of(target)
        image.size = image.size if image.digest else size

    def waits(self, target: Target) -> bool:
        """Returns True, and notes the event, if the image has failed and its wait is not over."""
        image = self._of(target)
        if not image.error or self.time >= image.next_try:
            return False
        self._event(WAITING, target.place, digest=image.failed_digest, reason=image.error, new=False)
        return True

    def wish_fails(self, wish: WisherState, reason: str) -> None:
        """Notes that the tags of a wish could not be listed."""
        key = f"{wish.list} {wish.wish}"
        new = key not in self.state.failing_wishes
        self._failing_wishes[key] = self.state.failing_wishes.setdefault(key, self.time)
        name = f"{wish.list}:{wish.line} {wish.wish}"
        owners = (wish.owner,) if wish.owner else ()
        known = self._acknowledged.until(wish.wish) or self._acknowledged.until(wish.list)
        event = Event(self.time, FAILED, name, reason=reason, new=new, owners=owners, acknowledged=known)
        self.events.append(event)

    def forget_mended_wishes(self) -> None:
        """Forgets the failures of all wishes that have not failed in this run. Call it only in a run that has
        looked at all wishes."""
        self.state.failing_wishes = dict(self._failing_wishes)

    def news(self) -> list[News]:
        """Returns the events that are new since the last call."""
        fresh = self.events[self._told :]
        self._told = len(self.events)
        return [News(event, event.image in self._public) for event in fresh]

    def leaves(self, place: str, reason: str, revision: int) -> None:
        """Notes that an image was removed from the tree."""
        image = self.state.images[place]
        self._event(REMOVED, place, before=image.digest, reason=reason, revision=revision)
        if image.wishes and image.error:
            image.digest, image.paths, image.revision, image.published, image.gone = "", [], 0, 0, 0
        else:
            del self.state.images[place]

    def forget_unknown(self, wished: Iterable[str]) -> None:
        """Drops the images that are neither in the tree nor among the `wished` places."""
        meant = set(wished)
        for place, image in list(self.state.images.items()):
            if place not in meant and not image.digest:
                del self.state.images[place]

    def would(self, kind: str, place: str, reason: str = "", digest: str = "") -> None:
        """Notes, in a dry run, a change that a real run would make. `kind`: the kind of the event, as
        Event.event has it."""
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
        if image.digest and not image.private:
            self._public.add(place)
        known = self._acknowledged.until(place) if kind in (FAILED, WAITING) else ""
        owners = tuple(dict.fromkeys(one.owner for one in image.wishes if one.owner))
        self.events.append(
            Event(self.time, kind, place, digest, before, revision, reason, new, owners, known)
        )


def _forgive(image: ImageState) -> None:
    image.error, image.failed, image.failures, image.failed_digest, image.next_try = "", 0, 0, "", 0
    image.gone = 0
