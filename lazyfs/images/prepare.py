"""Turns one source into changes of the tree: the unit of publishing, which can fail alone.

Preparing writes the contents and catalogs of a source, but no folder that leads to it. So a source that fails
leaves only objects to which no folder leads, and the next one can be prepared with the same Ingest (the
writer of objects). A StoreError differs: the store itself has failed, and would fail the next source too.
"""

from dataclasses import dataclass
from typing import NamedTuple

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest
from lazyfs.core.errors import UsageError
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.reference import parse
from lazyfs.core.params import Params
from lazyfs.core.tree_paths import flat_path
from lazyfs.images.image_tree import image_changes, published_config
from lazyfs.images.observer import PublishObserver
from lazyfs.images.profiles.new_images import NewImage, NewImageProfiles
from lazyfs.images.snapshots import snapshot, tree_of
from lazyfs.images.sources.image import Image
from lazyfs.images.sources.open import ImageOptions, check_is_file, open_image
from lazyfs.images.sources.trees import read_directory, read_tar
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


class PreparedSource(NamedTuple):
    """A source that can be put into the tree."""

    place: str
    """The path in the repository at which the image's link, or the tree, is put."""
    changes: dict[str, Inode]
    """Maps a path in the tree to the link or snapshot to put there."""


@dataclass(frozen=True)
class SourcePreparer:
    """Prepares sources for one repository, one at a time. Threads that prepare side by side each need a
    SourcePreparer and an Ingest of their own."""

    tree: StoredTree
    """The repository's tree: layers and configs that are in it are not read again."""
    params: Params
    ingest: Ingest
    images: ImageOptions
    observer: PublishObserver
    plain: bool = False
    """True to add no bind points or start-up files (`start_files`) to images."""
    bind_points: tuple[str, ...] = ()
    """Directories to add to images besides the standard bind points, relative to the image's root."""
    profiles: NewImageProfiles | None = None
    """Finds the profiles of new images; None if new images get no profile."""

    def prepare(self, source: str, place: str | None = None) -> PreparedSource:
        """Reads a source, given in the operator's notation, and writes its contents and catalogs.

        `place`: path in the tree; None for the image's own name. Raises LazyfsError of one line for a source
        that cannot be read or is damaged, UsageError for one that needs a `place`.
        """
        kind, colon, rest = source.partition(":")
        if colon and kind in ("tar", "dir"):
            check_is_file(source)
            if not place:
                raise UsageError(f"{source}: give the place of the tree in the repository with --as PATH")
            return self._tree_source(kind, rest, _tree_path(place))
        wanted = parse(place).path if place else None

        def known(own_place: str, digest: Digest) -> bytes | None:
            return published_config(self.tree, wanted or own_place, digest)

        with open_image(source, self.images, known) as image:
            at = wanted or image.place
            if at is None:
                raise UsageError(
                    f"{image.name} has no name of its own: give one with --as registry/repository:tag"
                )
            return self.prepare_image(image, at)

    def prepare_image(self, image: Image, place: str) -> PreparedSource:
        """Reads the layers of an opened image and writes its contents and catalogs, to hang at `place`.

        Raises as `prepare`.
        """
        changes = image_changes(
            image,
            place,
            self.tree,
            self.params,
            self.ingest,
            self.observer,
            plain=self.plain,
            bind_points=self.bind_points,
        )
        run = image.config.config or RunConfig()
        self._profile(NewImage(place, flat_path(image.config_digest), run), changes)
        return PreparedSource(place, changes)

    def _tree_source(self, kind: str, path: str, place: str) -> PreparedSource:
        records = read_tar(path, self.ingest) if kind == "tar" else read_directory(path, self.ingest)
        self.ingest.finish()
        changes = {place: snapshot(tree_of(records), self.params, self.ingest)}
        self._profile(NewImage(place, place, None), changes)
        return PreparedSource(place, changes)

    def _profile(self, new: NewImage, changes: dict[str, Inode]) -> None:
        """Adds a profile to the snapshot of a new image, if there is a profile for it. `changes`: the image's
        changes of the tree, of which the snapshot is one."""
        if self.profiles is not None:
            warn, made = self.observer.warn, changes[new.at]
            changes[new.at] = self.profiles.hinted(self.tree, new, made, self.ingest, warn)


def _tree_path(text: str) -> str:
    path = text.strip("/")
    if not path or any(part.startswith(".") for part in path.split("/")):
        raise UsageError(f"--as {text!r}: give a path of names that do not begin with a dot")
    return path
