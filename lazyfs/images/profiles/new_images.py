"""Adds a profile to each new image when it is published: the profile of the last image of the same registry's
repository, or a guessed one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lazyfs.core import profile
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, NotFound
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.images.profiles.guessed import StartGuess
from lazyfs.images.profiles.hot_packs import ProfileWriter
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.inherited import inherited_contents, predecessor
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


class NewImage(NamedTuple):
    """An image that is about to be published."""

    place: str
    """The path in the repository of the image's link."""
    at: str
    """The path at which the image's own tree will hang."""
    run: RunConfig | None
    """The image's start parameters, with its command; None for a published tree."""


@dataclass(frozen=True)
class NewImageProfiles:
    """Makes the profiles of images that are about to be published. Safe to use from several threads."""

    inherit: bool = True
    guess: bool = False
    """True to guess the profile of an image that inherits none."""

    def hinted(
        self, tree: StoredTree, new: NewImage, made: Inode, ingest: Ingest, warn: Callable[[str], None]
    ) -> Inode:
        """Returns the snapshot `made` with a profile added. Returns it unchanged if it hangs in the tree
        already, or if there is no profile for it.

        If the profile to be inherited, or an object from which one is guessed, is damaged or missing, warns
        and adds none: an image works without a profile. Raises StoreError.
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
                written = ProfileWriter(tree, top, ingest).write({"": touched}, profile.Origin.GUESSED)
                hint = profile.hint(written.ref) if written else None
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
        touched = inherited_contents(tree, old, top)
        written = ProfileWriter(tree, top, ingest).write(touched, profile.Origin.INHERITED, old.profile)
        return profile.hint(written.ref) if written else None
