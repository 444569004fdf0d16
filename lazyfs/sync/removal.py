"""Decides which images leave the tree. No image leaves only because it is absent somewhere: a reason must be
known. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from lazyfs.sync.lists import GivenList
from lazyfs.sync.state import ImageState, WisherState

UNWISHED = "no list wishes it any more"
CHOSEN_NO_MORE = "its wish does not choose it any more"


class Leaving(NamedTuple):
    """An image that may leave the tree."""

    place: str
    reason: str
    ask: bool
    """True if it has to be unknown to its registry too: a list of tags alone proves nothing."""


class Lists(NamedTuple):
    """The statements of a run's lists."""

    complete: frozenset[str]
    """Names of lists that were read whole and without an error; if several lists have a name, all of them
    were."""
    forgotten: frozenset[str]
    """Names of lists that the operator gives up: images that only they wished leave."""
    wishes: frozenset[tuple[str, str]]
    """(list, wish) in force."""
    failed: frozenset[tuple[str, str]]
    """(list, wish) of wishes whose tags could not be found out."""

    @classmethod
    def of(
        cls, given: Sequence[GivenList], failed: Iterable[tuple[str, str]], forgotten: Iterable[str]
    ) -> "Lists":
        """Returns the statements of these lists."""
        return cls(
            frozenset(one.name for one in given) - {one.name for one in given if not one.complete},
            frozenset(forgotten),
            frozenset((one.name, wish.shown) for one in given for wish in one.lists.wishes),
            frozenset(failed),
        )

    def says(self, name: str) -> bool:
        """Returns True if a list certainly does not wish the images that it does not name."""
        return name in self.forgotten or name in self.complete

    def silent(self, wish: WisherState) -> bool:
        """Returns True if this run cannot tell which images an earlier wish means now."""
        return not self.says(wish.list) or (wish.list, wish.wish) in self.failed


def leaving(
    images: Mapping[str, ImageState],
    wished: Iterable[str],
    lists: Lists,
    listed: Callable[[str], bool | None],
) -> list[Leaving]:
    """Returns the images that are published and that no wish means now, if every list that wished them
    confirms this.

    `wished`: the places of the targets. `listed`: place -> True if its tag is in its registry's list of tags
    of this run, False if it is not, None if the tags were not asked for or did not come whole.
    """
    meant = set(wished)
    found = []
    for place, image in images.items():
        if place in meant or not image.digest:
            continue
        standing = [one for one in image.wishes if (one.list, one.wish) in lists.wishes]
        if any((one.list, one.wish) in lists.failed for one in standing):
            continue
        if not all(lists.says(one.list) for one in image.wishes if one not in standing):
            continue
        if standing:
            there = listed(place)
            if there is not None:
                found.append(Leaving(place, CHOSEN_NO_MORE, ask=not there))
        elif image.wishes:
            found.append(Leaving(place, UNWISHED, ask=False))
    return found


class Due(NamedTuple):
    """The images that a run takes out of the tree."""

    now: list[str]
    too_many: int
    """The number of images that are due, if it is over the limit, so that none leaves; otherwise 0."""


def due(images: Mapping[str, ImageState], gone: Iterable[str], now: int, grace: float, most: int) -> Due:
    """Returns the images whose time of grace is over; none if they are more than `most`.

    `gone`: places that may leave. Images that are newly gone are marked with the time; marked ones that are
    no longer gone lose their mark.
    """
    gone = set(gone)
    over = []
    for place, image in images.items():
        if place not in gone:
            image.gone = 0
            continue
        image.gone = image.gone or now
        if now - image.gone >= grace:
            over.append(place)
    return Due([], len(over)) if len(over) > most else Due(over, 0)
