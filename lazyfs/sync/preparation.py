"""Reads one image from its registry: the unit that fails alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.params import FLAT, Params
from lazyfs.core.registry.steps import Privacy
from lazyfs.core.tree_paths import flat_path
from lazyfs.images.image_tree import published_config
from lazyfs.images.observer import PublishObserver
from lazyfs.images.prepare import SourcePreparer
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
"""The folders with the parts that images share, and that stay when one image goes."""


class Job(NamedTuple):
    """The image of a target, to be read. Other targets of the repository may share it."""

    target: Target
    digest: str
    """The digest that its tag names."""


class PreparedImage(NamedTuple):
    """An image that can be put into the tree."""

    shared: dict[str, Inode]
    """Trees and layers."""
    own: dict[str, Inode]
    """Links and metadata at the places of the target that it was read for."""
    place: str
    """The place of the target that it was read for."""
    config: str
    """Digest of the config, in hex."""
    size: int
    private: bool

    def of(self, target: Target, digest: str) -> dict[str, Inode]:
        """Returns the links and metadata that a target of the same repository and digest gets."""
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
    """Keeps the first warnings of an image."""

    MOST = 20

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        if len(self.lines) < self.MOST:
            self.lines.append(message)


@dataclass(frozen=True)
class ImagePreparer:
    """Reads images for one repository, from several threads."""

    store: Store
    objects: ObjectSink
    """The sink for contents: objects found there are kept from collections."""
    params: Params
    registries: Registries
    pending: PendingLayers
    root: Callable[[], ObjectRef]
    """The root catalog of the revision that is the base now."""
    platform: Platform
    """The platform of wishes that name none."""
    platform_asked: bool
    tell: Callable[[str], None]
    """Called with each warning."""

    def prepare(self, job: Job) -> PreparedImage:
        """Reads the image of a job and writes its contents. Raises LazyfsError of one line."""
        first = job.target
        client = self.registries.client(first.reference)
        shared: dict[str, Inode] = {}
        own: dict[str, Inode] = {}
        config, size = "", 0
        for number, platform in enumerate(first.platforms or (self.platform,)):
            place = multiarch_place(platform, first.place) if number else first.place
            asked = bool(first.platforms) or self.platform_asked
            image = self._image(client, job, platform, asked=asked)
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

    def _image(self, client: RegistryClient, job: Job, platform: Platform, *, asked: bool) -> RegistryImage:
        first = job.target

        def known(_: str, digest: Digest) -> bytes | None:
            return published_config(self._tree(), first.place, digest)

        by_digest = first.reference._replace(digest=job.digest)
        return RegistryImage(client, by_digest, platform, known, asked=asked)

    def _changes(self, image: RegistryImage, place: str, target: Target) -> dict[str, Inode]:
        notes = Notes()
        tree = self._tree()
        with self.pending.claim(tree, image.config.diff_ids), Ingest(self.objects, self.params) as ingest:
            preparer = SourcePreparer(
                self._tree(),
                self.params,
                ingest,
                ImageOptions(self.platform),
                notes,
                bind_points=target.bind_points,
            )
            prepared = preparer.prepare_image(image, place)
            if not self.registries.settings(target.reference.registry).publish_private:
                image.check_public()
            self.pending.add(prepared.changes)
        for line in notes.lines:
            self.tell(line)
        return prepared.changes

    def _tree(self) -> TreeWithPending:
        return TreeWithPending(self.store, self.root(), self.pending)
