"""Reads one image from its registry. A failure here is a failure of this image only."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.params import FLAT, Params
from lazyfs.core.registry.steps import Privacy
from lazyfs.core.tree_paths import flat_path, layer_path
from lazyfs.images.image_tree import layer_changes, published_config
from lazyfs.images.observer import PublishObserver
from lazyfs.images.prepare import SourcePreparer
from lazyfs.images.profiles.new_images import NewImageProfiles
from lazyfs.images.registry.client import RegistryClient
from lazyfs.images.snapshots import link
from lazyfs.images.sources.image import distinct
from lazyfs.images.sources.open import ImageOptions
from lazyfs.images.sources.registry_image import RegistryImage
from lazyfs.store import ObjectSink, Store
from lazyfs.store.ingest import Ingest
from lazyfs.sync.layout import link_target, multiarch_place
from lazyfs.sync.pending_layers import PendingLayers, TreeWithPending
from lazyfs.sync.registries import Registries
from lazyfs.sync.targets import Target, alias_paths

FLAT_FOLDER = FLAT.decode()
SHARED = (f"{FLAT_FOLDER}/", ".layers/")
"""The folders of images' trees and of layers. Several images may share these, so they stay when one image is
removed."""


class Job(NamedTuple):
    """A request to read the image of a target. Other targets in the same repository of the registry may get
    the same image."""

    target: Target
    digest: str
    """The digest that the target's tag names."""


class PreparedImage(NamedTuple):
    """An image that can be put into the tree."""

    shared: dict[str, Inode]
    """The trees and layers: path -> inode."""
    own: dict[str, Inode]
    """The links and metadata for the target that the image was read for: path -> inode."""
    place: str
    """The place of the target that the image was read for."""
    config: str
    """Digest of the image's config, in hex."""
    size: int
    private: bool

    def of(self, target: Target, digest: str) -> dict[str, Inode]:
        """Returns the links and metadata for another target with the same digest in the same repository of
        the registry: path -> inode."""
        created = self.own[self.place].mtime
        found = {
            path.removesuffix(self.place) + target.place if path.endswith(self.place) else path: inode
            for path, inode in self.own.items()
        }
        flat = f"{FLAT_FOLDER}/{self.config[:2]}/{self.config}"
        for path in alias_paths(target, digest):
            found[path] = link(link_target(path, flat), created)
        return found


class Notes(PublishObserver):
    """Keeps the first warnings about an image."""

    MOST = 20

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        if len(self.lines) < self.MOST:
            self.lines.append(message)


@dataclass(frozen=True)
class ImagePreparer:
    """Reads images for one run's repository. Safe to use from several threads."""

    store: Store
    read: Callable[[ObjectRef], bytes]
    """Returns an object's verified plaintext, as `store.reader` does, but reads each catalog only once for
    all images."""
    objects: ObjectSink
    """The sink for the contents of images. Objects that it finds in the store are protected from garbage
    collection."""
    params: Params
    registries: Registries
    pending: PendingLayers
    root: Callable[[], ObjectRef]
    """Returns the root catalog of the revision on which the next one is based."""
    platform: Platform
    """The platform of wishes that name none."""
    platform_asked: bool
    tell: Callable[[str], None]
    """Called with each warning."""
    profiles: NewImageProfiles | None = None
    """Makes the profiles of new images; None if new images get none."""

    def prepare(self, job: Job) -> PreparedImage:
        """Reads the image of a job and writes its contents. Raises LazyfsError with a message of one line."""
        first = job.target
        client = self.registries.client(first.reference)
        shared: dict[str, Inode] = {}
        own: dict[str, Inode] = {}
        config, size = "", 0
        platforms = first.platforms or (self.platform,)
        for number, (platform, image) in enumerate(zip(platforms, self.images(job), strict=True)):
            place = multiarch_place(platform, first.place) if number else first.place
            changes = self._changes(image, place, first)
            shared.update({path: inode for path, inode in changes.items() if path.startswith(SHARED)})
            own.update({path: inode for path, inode in changes.items() if not path.startswith(SHARED)})
            if not number:
                config = image.config_digest.hex()
                if first.platforms:
                    path = multiarch_place(platform, place)
                    own[path] = link(link_target(path, flat_path(image.config_digest)), own[place].mtime)
            size += sum(layer.blob.size for layer in distinct(image))
        return PreparedImage(shared, own, first.place, config, size, client.privacy is Privacy.PRIVATE)

    def telling(self, tell: Callable[[str], None]) -> "ImagePreparer":
        """Returns an equal preparer that passes its warnings to `tell`."""
        return replace(self, tell=tell)

    def prepare_layers(self, job: Job, wanted: Collection[Digest]) -> dict[str, Inode]:
        """Reads the `wanted` layers of a job's image, except those that the tree has, and writes their
        contents. Returns the snapshots of the layers, by path. Raises as `prepare`."""
        changes: dict[str, Inode] = {}
        for image in self.images(job):
            notes = Notes()
            with (
                self.pending.claim(self.tree(), wanted, self.patience(job.target)),
                Ingest(self.objects, self.params) as ingest,
            ):
                tree = self.tree()
                left = {diff_id for diff_id in wanted if tree.find(layer_path(diff_id)) is None}
                changes.update(layer_changes(image, left, self.params, ingest, notes))
                self._check_public(image, job.target)
                self.pending.add(changes)
        return changes

    def patience(self, target: Target) -> float:
        """Returns the seconds that an image may wait for layers that are being read for other images."""
        return self.registries.settings(target.reference.registry).minutes_per_run * 60

    def _check_public(self, image: RegistryImage, target: Target) -> None:
        if not self.registries.settings(target.reference.registry).publish_private:
            image.check_public()

    def layers(self, job: Job) -> set[Digest]:
        """Returns the diff_ids of the layers of a job's image, for all its platforms. Raises as `prepare`."""
        return {diff_id for image in self.images(job) for diff_id in image.config.diff_ids}

    def images(self, job: Job) -> Iterator[RegistryImage]:
        """Yields a job's image for each of its platforms, without reading layers. Raises as `prepare`."""
        target = job.target
        client = self.registries.client(target.reference)
        asked = bool(target.platforms) or self.platform_asked
        for platform in target.platforms or (self.platform,):
            yield self._image(client, job, platform, asked=asked)

    def _image(self, client: RegistryClient, job: Job, platform: Platform, *, asked: bool) -> RegistryImage:
        first = job.target

        def known(_: str, digest: Digest) -> bytes | None:
            return published_config(self.tree(), first.place, digest)

        by_digest = first.reference._replace(digest=job.digest)
        return RegistryImage(client, by_digest, platform, known, asked=asked)

    def _changes(self, image: RegistryImage, place: str, target: Target) -> dict[str, Inode]:
        notes = Notes()
        claim = self.pending.claim(self.tree(), image.config.diff_ids, self.patience(target))
        with claim, Ingest(self.objects, self.params) as ingest:
            preparer = SourcePreparer(
                self.tree(),
                self.params,
                ingest,
                ImageOptions(self.platform),
                notes,
                bind_points=target.bind_points,
                profiles=self.profiles,
            )
            prepared = preparer.prepare_image(image, place)
            self._check_public(image, target)
            self.pending.add(prepared.changes)
        for line in notes.lines:
            self.tell(line)
        return prepared.changes

    def tree(self) -> TreeWithPending:
        """Returns the tree of the base revision, with the layers that were prepared since."""
        return TreeWithPending(self.read, self.root(), self.pending)
