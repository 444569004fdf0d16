"""Decides which images leave the tree. An image never leaves only because it is missing in a list or answer:
there has to be a known reason. Pure."""

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
    """True if the image may leave only after the registry, asked for its tag, has said that the tag is gone:
    a list of tags in which the tag is missing proves nothing."""


class Lists(NamedTuple):
    """The evidence of one run's wishlists for the removal of images: the lists that were read whole, the
    lists that the operator gave up, and the wishes in force."""

    complete: frozenset[str]
    """Names of lists that were read whole and without an error. If several lists have the same name, this
    holds for all of them."""
    forgotten: frozenset[str]
    """Names of lists that the operator has given up. An image leaves if only such lists wished it."""
    wishes: frozenset[tuple[str, str]]
    """(list, wish) of each wish in force."""
    failed: frozenset[tuple[str, str]]
    """(list, wish) of each wish whose tags could not be listed."""

    @classmethod
    def of(
        cls, given: Sequence[GivenList], failed: Iterable[tuple[str, str]], forgotten: Iterable[str]
    ) -> "Lists":
        """Returns the evidence of these lists. `failed`: (list, wish) of failed wishes. `forgotten`: names of
        lists given up."""
        return cls(
            frozenset(one.name for one in given) - {one.name for one in given if not one.complete},
            frozenset(forgotten),
            frozenset((one.name, wish.shown) for one in given for wish in one.lists.wishes),
            frozenset(failed),
        )

    def says(self, name: str) -> bool:
        """Returns True if the list of this name certainly wishes no images but those that it names: it was
        read whole, or the operator has given it up."""
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
    """Returns the published images that no wish means now. Leaves out an image if that is not certain: a wish
    for it was in a list that was not read whole, the tags of its wish could not be listed, or `listed` knows
    nothing of its tag.

    `wished`: the places of the targets. `listed`: gets a place; returns True if the registry's list of tags,
    as read in this run, has the image's tag, False if it has not, None if the tags were not asked for or the
    list is incomplete.
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
    """The number of images that are due, if that is over the limit: then none leaves. Otherwise 0."""


def due(images: Mapping[str, ImageState], gone: Iterable[str], now: int, grace: float, most: int) -> Due:
    """Returns the images that have had a reason to leave for at least `grace` seconds; if there are more than
    `most`, only their number.

    `gone`: the places of all images that have a reason to leave now. Keeps `ImageState.gone` up to date: sets
    it to `now` for an image that is newly in `gone`, and to 0 for an image that is not in it.
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
