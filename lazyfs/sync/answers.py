"""Answers `lazyfs when`: finds out when an image was or will be published, from the store, the lists and the
service's state."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import NotFound, UsageError
from lazyfs.core.history.records import PastRevision
from lazyfs.core.image_names import candidates, full_name
from lazyfs.core.wishlist.read import Wishlist
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.sync.conditions import ImageCondition, conditions
from lazyfs.sync.quotas import QuotaUse
from lazyfs.sync.state import State, WisherState

MOST_REVISIONS = 200
"""The largest number of revisions that are searched, newest first, for the first one that has an image."""


class Revisions(Protocol):
    """A repository's revisions, read from its store or over its URL."""

    def revisions(self) -> Iterator[PastRevision]:
        """Yields every revision, newest first. Raises the errors of reading."""
        ...

    def tree_at(self, root: ObjectRef) -> StoredTree:
        """Returns the tree of the revision that has this root catalog."""
        ...


class Publication(NamedTuple):
    """An image as it is in the tree."""

    place: str
    target: str
    """The target of the image's link; empty if it is a published tree and not a link."""
    digests: list[str]
    """The digests, `sha256:...`, under which links in the image's folder lead to this image too."""
    revision: int
    """The oldest revision that has the image, among the revisions that were searched."""
    time: int
    """The time at which that revision was made: seconds since 1970."""
    certain: bool
    """False if revisions older than `revision` may have the image too."""


class Answer(NamedTuple):
    """Everything that is known of one name."""

    image: str
    publication: Publication | None
    condition: ImageCondition | None
    """The image's condition; None if the service does not know the image."""
    wishes: list[WisherState]
    """The wishes in force that mean the image; filled only if the service does not know the image yet."""
    quotas: dict[str, QuotaUse]
    """Owner -> use of the owner's quota, for the owners of the wishes who have one."""


def publication(source: Revisions, name: str) -> Publication | None:
    """Returns the image that a name means in the tree; None if there is none. Raises UsageError for a name
    that means several images, and the errors of reading."""
    looked_at = islice(source.revisions(), MOST_REVISIONS)
    newest = next(looked_at)
    tree = source.tree_at(newest.root)
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
        try:
            same = older.root == first.root or _target(source.tree_at(older.root), place) == target
        except NotFound:  # it is no longer kept
            seen = MOST_REVISIONS
            break
        if not same:
            certain = True
            break
        first = older
    certain |= seen < MOST_REVISIONS
    return Publication(place, target, _digests(tree, place, target), first.number, first.time, certain)


def answer(name: str, source: Revisions, state: State | None, lists: Sequence[Wishlist]) -> Answer:
    """Returns everything that is known of a name. `state`: the service's state; None if it cannot be read
    here. `lists`: the lists in force. Raises as `publication`."""
    found = publication(source, name)
    images = state.images if state else {}
    ranks = candidates(name, {place.partition("/")[0] for place in images})
    names = [found.place] if found else [path for rank in ranks for path in rank]
    place = next((one for one in names if one in images), found.place if found else full_name(name))
    condition = next((one for one in conditions(images) if one.image == place), None)
    wishes = [] if condition else list(_wishing(place, lists))
    owners = dict.fromkeys(one.owner for one in (condition.wishes if condition else wishes))
    quotas = state.quotas if state else {}
    return Answer(
        place, found, condition, wishes, {owner: quotas[owner] for owner in owners if owner in quotas}
    )


def _wishing(place: str, lists: Iterable[Wishlist]) -> Iterable[WisherState]:
    """Yields the wishes that mean the image with this place in the tree."""
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
