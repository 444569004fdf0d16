"""`lazyfs plan`: writes a file of the images that wishlists ask for and the tree lacks. Jobs on other
machines (`lazyfs convert`) each convert a part of these images, a shard.

The plan names no account and no secret. It takes a lease in the store: until the plan is committed, garbage
collection deletes nothing that its shards find or put there.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.sources.image import distinct, none_known
from lazyfs.images.sources.registry_image import RegistryImage
from lazyfs.repository.commit import read_revision
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, reader
from lazyfs.store.recent_objects import RecentObjects
from lazyfs.sync.conversion import ImageJob, Surroundings, job_of
from lazyfs.sync.failures import Failure, failure_of
from lazyfs.sync.layout import multiarch_place
from lazyfs.sync.lists import GivenList
from lazyfs.sync.published import Published
from lazyfs.sync.registries import Registries
from lazyfs.sync.resolution import Gone, Resolver
from lazyfs.sync.targets import Target, alias_paths, targets

VERSION = 1
LEASE_HOURS = 24.0
"""Hours for which the plan's lease lasts after its last renewal: jobs may wait that long in a batch system's
queue."""
MOST_SHARDS = 10_000


class PlannedImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image to convert."""

    job: ImageJob
    layers: dict[str, int]
    """The layers that the tree lacks: diff_id in hex -> stored bytes."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a plan's file."""

    version: int
    repository: str
    lease: str
    lease_seconds: float
    platform: Platform
    platform_asked: bool
    images: list[PlannedImage]
    failed: dict[str, str]
    """The images and wishes that are not planned: place or wish -> reason."""
    unchanged: int

    def surroundings(self, store: str, registries: Registries) -> Surroundings:
        """Returns the settings that are the same for all conversions of the plan."""
        return Surroundings(
            store,
            self.lease,
            self.lease_seconds,
            self.platform,
            self.platform_asked,
            dict(registries.all_settings),
        )


def read_plan(path: str) -> Plan:
    """Reads a plan. Raises UsageError if the file cannot be read, FormatError if it is no plan."""
    try:
        with open(path, "rb") as file:
            plan = msgspec.json.decode(file.read(), type=Plan)
    except OSError as error:
        raise UsageError(f"plan {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError(f"plan {path}: {error}: give the output of lazyfs plan") from None
    if plan.version != VERSION:
        raise FormatError(f"plan {path} has version {plan.version}, not {VERSION}: plan with this lazyfs")
    return plan


class Planner(NamedTuple):
    """Finds out which images have to be converted. Asks registries, and reads no layers."""

    store: Store
    registries: Registries
    platform: Platform
    platform_asked: bool
    layout: str
    now: datetime

    def plan(self, lists: Sequence[GivenList], lease: PublisherLease, lease_seconds: float) -> Plan:
        """Returns the plan for the lists. `lease_seconds`: the seconds for which the plan's lease lasts after
        each renewal. An image that cannot be planned is in `Plan.failed`. Raises
        LeaseLost, and the errors of reading the store."""
        base = read_revision(self.store)
        tree = StoredTree(RecentObjects(reader(self.store)), base.root)
        published = Published(tree)
        resolver = Resolver(self.registries, self.platform, {}, self.now.timestamp)
        resolution = resolver.resolve(lists)
        failed = {one.wish.shown: one.failure.reason for one in resolution.failed}
        wished = list(targets(resolution.resolved, self.layout).by_place.values())
        answers = resolver.digests((target.reference for target in wished), lease.keep_alive)
        images: list[PlannedImage] = []
        unchanged = 0
        for target, answer in zip(wished, answers, strict=True):
            if isinstance(answer, Gone | Failure):
                failed[target.place] = answer.reason
            elif _stands(published, target, answer):
                unchanged += 1
            else:
                try:
                    images.append(PlannedImage(job_of(target, answer), self._layers(tree, target, answer)))
                except Exception as error:  # noqa: BLE001 - fails alone
                    failed[target.place] = failure_of(error).reason
            lease.keep_alive()
        return Plan(
            VERSION,
            base.name,
            lease.token,
            lease_seconds,
            self.platform,
            self.platform_asked,
            images,
            failed,
            unchanged,
        )

    def _layers(self, tree: StoredTree, target: Target, digest: str) -> dict[str, int]:
        """Returns those layers of an image that the tree lacks: diff_id in hex -> stored bytes."""
        client = self.registries.client(target.reference)
        found: dict[Digest, int] = {}
        for platform in target.platforms or (self.platform,):
            asked = bool(target.platforms) or self.platform_asked
            by_digest = target.reference._replace(digest=digest)
            image = RegistryImage(client, by_digest, platform, none_known, asked=asked)
            found.update((layer.diff_id, layer.blob.size) for layer in distinct(image))
        return {
            diff_id.hex(): size for diff_id, size in found.items() if tree.find(layer_path(diff_id)) is None
        }


def _stands(published: Published, target: Target, digest: str) -> bool:
    """Returns True if the tree has the image of this digest at all paths of the target."""
    config = published.target(target.place)
    links = [published.target(path) for path in alias_paths(target, digest)]
    platforms = [published.target(multiarch_place(one, target.place)) for one in target.platforms]
    named = bool(target.reference.digest) or bool(links)
    return config is not None and named and all(one == config for one in links) and None not in platforms


def shard_of(plan: Plan, shards: int) -> tuple[list[int], dict[str, int]]:
    """Returns (the shard of each image, in the plan's order; the shard of each layer, by diff_id). Shards are
    numbered from 0. Every machine gets the same result. Shards get about the same number of bytes; a layer
    belongs to the shard of the first image that has it."""
    loads = [0] * shards
    image_shards = [0] * len(plan.images)
    layer_shards: dict[str, int] = {}
    order = sorted(
        range(len(plan.images)), key=lambda number: (-sum(plan.images[number].layers.values()), number)
    )
    for number in order:
        layers = plan.images[number].layers
        shard = min(range(shards), key=lambda one: (loads[one], one))
        image_shards[number] = shard
        for diff_id, size in sorted(layers.items()):
            if diff_id not in layer_shards:
                layer_shards[diff_id] = shard
                loads[shard] += size
        loads[shard] += 1
    return image_shards, layer_shards
