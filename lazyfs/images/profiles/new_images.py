"""Gives new images profiles as they are published: the profile of the repository's last image, or a guessed
one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lazyfs.core import profile
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import BadData, NotFound
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.images.profiles.bundles import BundleWriter, within_bounds
from lazyfs.images.profiles.guessed import StartGuess
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.inherited import inherited_objects, predecessor
from lazyfs.images.profiles.publish import profile_members
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import ObjectSink, ReadableStore
from lazyfs.store.ingest import Ingest


class NewImage(NamedTuple):
    """An image that is about to be published."""

    place: str
    """Path of the image's name in the tree."""
    at: str
    """The path at which its tree will hang."""
    run: RunConfig | None
    """The image's start parameters, with its command; None for a published tree."""


@dataclass(frozen=True)
class NewImageProfiles:
    """Makes the profiles of images that are about to be published. Safe to use from several threads."""

    store: ReadableStore
    objects: ObjectSink
    inherit: bool = True
    guess: bool = False
    """True to guess the profile of an image that inherits none."""

    def hinted(
        self, tree: StoredTree, new: NewImage, made: Inode, ingest: Ingest, warn: Callable[[str], None]
    ) -> Inode:
        """Adds a profile to the snapshot `made` and returns it. Returns it unchanged if it hangs in the tree
        already, or if there is no profile for it.

        If the older image's profile is damaged, warns and adds none: an image works without a profile. Raises
        StoreError.
        """
        place, at, run = new
        top = made.nested.ref if made.nested else None
        there = tree.inode_at(at)
        if top is None or (there and there.nested == made.nested):
            return made  # what hangs there keeps its own
        try:
            hint = self._inherited(tree, place, at, top, ingest) if self.inherit else None
            if hint is None and self.guess and run is not None:
                touched = StartGuess(ImageFiles(tree, top), run).touched()
                hint = self._written(tree, top, touched, ingest, profile.Origin.GUESSED, [])
        except (BadData, NotFound) as error:
            warn(f"{place} is published without a profile: {error}")
            return made
        if hint is None:
            return made
        made.xattrs = tuple(sorted([*profile.without_hint(made.xattrs), hint]))
        return made

    def _inherited(
        self, tree: StoredTree, place: str, at: str, top: ObjectRef, ingest: Ingest
    ) -> tuple[bytes, bytes] | None:
        old = predecessor(tree, place, at)
        if old is None:
            return None
        touched = dict.fromkeys(inherited_objects(tree, old, top))
        return self._written(tree, top, touched, ingest, profile.Origin.INHERITED, old.bundles)

    def _written(
        self,
        tree: StoredTree,
        top: ObjectRef,
        touched: dict[Digest, None],
        ingest: Ingest,
        origin: profile.Origin,
        kin: list[profile.Bundle],
    ) -> tuple[bytes, bytes] | None:
        members = list(within_bounds(profile_members(tree, top, touched)))
        if not members:
            return None
        bundles = BundleWriter(self.store, self.objects).write(members, kin)
        return profile.hint(ingest.put(profile.encode(bundles, origin)))
