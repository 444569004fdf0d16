"""Gives images profiles, and removes them.

The bundles of a profile hold copies of stored objects. They are written before the signed metadata that leads
to them, so a run that is killed leaves the revision unchanged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lazyfs.core import profile
from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.core.profile import Origin
from lazyfs.core.reach import Reached, catalog_at, walk
from lazyfs.images.profiles.bundles import BundleWriter, within_bounds
from lazyfs.images.profiles.traces import Touched
from lazyfs.repository.diff import ResolvedPath, resolve
from lazyfs.repository.edit import Edit, EditResult
from lazyfs.repository.image_place import find_place
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store


@dataclass(frozen=True)
class ProfileReport:
    """The outcome of making a profile."""

    revision: Revision
    changed: bool
    """False if the image had this profile already."""
    place: str
    """Path at which the image's tree hangs."""
    objects: int
    bundles: int
    stored_bytes: int
    left_out: int
    """Number of objects that were left out, because they are too many or too large for a profile."""


def publish_profile(
    store: Store,
    keys: Keys,
    image: str,
    touched: Touched,
    now: Callable[[], datetime],
    lease: PublisherLease | None = None,
    origin: Origin = Origin.RECORDED,
) -> ProfileReport:
    """Gives an image a profile of the objects in `touched`, except those of other images. `image`: path in
    the tree of the image's name or of its own tree.

    `lease`: as for Edit. Raises UsageError if there is no such image, if `touched` has none of its objects,
    or if another tree was published at its place meanwhile; also raises as Edit.commit.
    """
    with Edit(store, keys, now, lease=lease) as edit:
        found, top = profiled_tree(edit.tree, image)
        members = profile_members(edit.tree, top, touched)
        if not members:
            raise UsageError(f"the trace touched nothing of {image}")
        within = list(within_bounds(members))
        bundles = BundleWriter(store, edit.objects).write(within)
        edit.hint(found.path, top, profile.hint(edit.ingest.put(profile.encode(bundles, origin))))
        revision, changed = edit.commit()
    return ProfileReport(
        revision,
        changed,
        found.path,
        objects=len(within),
        bundles=len(bundles),
        stored_bytes=sum(one.stored for one in bundles),
        left_out=len(members) - len(within),
    )


def drop_profile(store: Store, keys: Keys, image: str, now: Callable[[], datetime]) -> EditResult:
    """Removes the image's profile, if it has one. Raises as `publish_profile`."""
    with Edit(store, keys, now) as edit:
        found, _ = profiled_tree(edit.tree, image)
        edit.apply(lambda live: live.drop_hint(found.path))
        return edit.commit()


def profiled_tree(tree: StoredTree, image: str) -> tuple[ResolvedPath, ObjectRef]:
    """Returns the tree that an image's name leads to, and its top catalog. Raises UsageError if the name
    leads to no tree, or to one that cannot have a profile."""
    found = resolve(tree, find_place(tree, image))
    top = found.node.entry.nested
    if top is None or found.node.entry.flags & LIVE:
        raise UsageError(f"{image} is no image or published tree of the repository")
    return found, top


def profile_members(tree: StoredTree, top: ObjectRef, touched: Touched) -> list[ObjectRef]:
    """Returns the image's objects that were touched, and the objects that lead to them: catalogs and chunk
    lists first, from the top down, then contents in the order of `touched`."""
    known: dict[Digest, Reached] = {}
    for reached in walk([catalog_at(top)], tree.read):
        if reached.ref.digest in touched:
            known.setdefault(reached.ref.digest, reached)
    first: dict[ObjectRef, None] = {}
    contents = []
    for digest in touched:
        found = known.get(digest)
        if found is None:
            continue
        first.update(dict.fromkeys(found.above()))
        if found.leads_on:
            first.setdefault(found.ref)
        else:
            contents.append(found.ref)
    return [*first, *(ref for ref in contents if ref not in first)]
