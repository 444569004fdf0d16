"""Adds profiles to published images, and removes profiles.

The hot packs of a profile hold copies of stored files. They are written before the signed metadata that leads
to them, so a run that is killed leaves the revision unchanged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lazyfs.core import profile
from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, NotFound, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.profile import Origin, total
from lazyfs.images.profiles.hot_packs import ProfileWriter, Touched
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
    programs: int
    files: int
    """Number of small files, which lie in hot packs."""
    hot_packs: int
    hot_bytes: int
    """Plaintext bytes of the hot packs."""
    objects: int
    """Number of the profile's objects that are no hot packs: catalogs, chunk lists, chunks."""
    left_out: int
    """Number of contents that were left out, because they are too many or too large for a profile."""


def publish_profile(
    store: Store,
    keys: Keys,
    image: str,
    touched: Touched,
    now: Callable[[], datetime],
    lease: PublisherLease | None = None,
    origin: Origin = Origin.RECORDED,
) -> ProfileReport:
    """Adds to an image a profile of the contents in `touched`, without those that only other images have.
    `image`: the path in the repository of the image's name, or of the image's own tree.

    If the image has a profile of the same origin, the new profile keeps the program lists that the old one
    has for other programs. `lease`: a lease that the caller has taken and will end; None to take one here.
    Raises UsageError if there is no such image, if `touched` has none of its objects, or if another tree was
    published at its place meanwhile; also raises as Edit.commit.
    """
    with Edit(store, keys, now, lease=lease) as edit:
        found, top = profiled_tree(edit.tree, image)
        earlier = _earlier(found)
        touched = {**_kept_programs(earlier, touched, origin), **touched}
        written = ProfileWriter(edit.tree, top, edit.ingest).write(touched, origin, earlier)
        if written is None:
            raise UsageError(f"the trace touched nothing of {image}")
        edit.hint(found.path, top, profile.hint(written.ref))
        revision, changed = edit.commit()
    made = written.profile
    packs = made.listed()
    hot = {pack.ref for pack in packs}
    return ProfileReport(
        revision,
        changed,
        found.path,
        programs=len(made.programs),
        files=sum(len(pack.files) for pack in packs),
        hot_packs=len(packs),
        hot_bytes=total(hot),
        objects=len([ref for ref in made.of() if ref not in hot]),
        left_out=written.left_out,
    )


def _earlier(found: ResolvedPath) -> profile.Profile | None:
    """Returns the profile that the image has; None if it has none, or a damaged one, which is replaced."""
    hinted = profile.hinted(found.node.entry)
    try:
        return profile.decode(found.tree.read(hinted)) if hinted else None
    except (BadData, NotFound):
        return None


def _kept_programs(earlier: profile.Profile | None, touched: Touched, origin: Origin) -> Touched:
    """Returns the contents that the image's earlier profile lists for programs that are not in `touched`.
    Returns none if `touched` holds a start of an unknown program, or if the earlier profile has another
    origin: a recorded start is worth more than an inherited one."""
    if earlier is None or earlier.origin is not origin or "" in touched:
        return {}
    others = [one for one in earlier.programs if one.path not in touched]
    return {one.path: [ref.digest for ref in earlier.contents(one)] for one in others}


def drop_profile(store: Store, keys: Keys, image: str, now: Callable[[], datetime]) -> EditResult:
    """Removes the image's profile, if it has one. Raises UsageError if there is no such image, and as
    Edit.commit."""
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
