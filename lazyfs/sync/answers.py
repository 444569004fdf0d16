"""Tells when an image appears, by the store, the lists and the service's state."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.image_names import candidates, full_name
from lazyfs.core.wishlist.read import Wishlist
from lazyfs.repository.history import revisions
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import ReadableStore, reader
from lazyfs.sync.conditions import ImageCondition, conditions
from lazyfs.sync.state import State, WisherState

MOST_REVISIONS = 200
"""Most revisions that are searched for the first one that has an image."""


class Publication(NamedTuple):
    """An image as the tree has it."""

    place: str
    target: str
    """The target of its link; empty for a published tree."""
    digests: list[str]
    """The digests whose links in its repository lead to the same image."""
    revision: int
    """The first revision that has the image, among those that were looked at."""
    time: int
    """Moment at which that revision was made: seconds since 1970."""
    certain: bool
    """False if the image may have been there before that revision too."""


class Answer(NamedTuple):
    """All that is known of one name."""

    image: str
    publication: Publication | None
    condition: ImageCondition | None
    """None if the service does not know it."""
    wishes: list[WisherState]
    """Wishes of the lists in force that mean it, if the service does not know it yet."""


def publication(store: ReadableStore, name: str) -> Publication | None:
    """Returns the image that a name means in the tree; None if there is none. Raises UsageError for a name of
    several images, and the errors of the store."""
    looked_at = islice(revisions(store), MOST_REVISIONS)
    newest = next(looked_at)
    tree = StoredTree(reader(store), newest.root)
    try:
        place = find_place(tree, name)
    except UsageError as error:
        if "ambiguous" in str(error):
            raise
        return None
    target = _target(tree, place)
    first, seen, certain = newest, 1, False
    for older in looked_at:
        seen += 1
        if older.root != first.root and _target(StoredTree(reader(store), older.root), place) != target:
            certain = True
            break
        first = older
    certain |= seen < MOST_REVISIONS
    return Publication(place, target, _digests(tree, place, target), first.number, first.time, certain)


def answer(name: str, store: ReadableStore, state: State | None, lists: Sequence[Wishlist]) -> Answer:
    """Returns everything known of a name. `state`: the service's state, None if it is not at hand. `lists`:
    the lists in force. Raises as `publication`."""
    found = publication(store, name)
    images = state.images if state else {}
    ranks = candidates(name, {place.partition("/")[0] for place in images})
    names = [found.place] if found else [path for rank in ranks for path in rank]
    place = next((one for one in names if one in images), found.place if found else full_name(name))
    condition = next((one for one in conditions(images) if one.image == place), None)
    wishes = [] if condition else list(_wishing(place, lists))
    return Answer(place, found, condition, wishes)


def _wishing(place: str, lists: Iterable[Wishlist]) -> Iterable[WisherState]:
    """Yields the wishes that mean an image."""
    name, _, tag = place.rpartition("/")[2].partition(":")
    repository = f"{place.rpartition('/')[0]}/{name}"
    for one in lists:
        for wish in one.wishes:
            if f"{wish.reference.registry}/{wish.reference.repository}" != repository:
                continue
            if wish.choice.of([tag]) if wish.choice else wish.reference.path == place:
                yield WisherState(one.name, wish.line, wish.shown, wish.extras.owner)


def _target(tree: StoredTree, place: str) -> str:
    node = tree.find(place)
    if node is None:
        return "-"
    return node.entry.content.decode(errors="replace") if node.entry.is_link else ""


def _digests(tree: StoredTree, place: str, target: str) -> list[str]:
    folder, _, name = place.rpartition("/")
    node = tree.find(folder)
    if node is None or not target:
        return []
    prefix = f"{name.partition(':')[0]}:sha256:".encode()
    return [
        entry.name.decode(errors="replace").partition(":")[2]
        for entry in tree.entries(node)
        if entry.name.startswith(prefix)
        and entry.is_link
        and entry.content.decode(errors="replace") == target
    ]
