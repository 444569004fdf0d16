"""Compares a published image with its source: everything is fetched and derived again, nothing is stored."""

import os

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.catalog.layout import VERSION
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import NotFound
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.core.tree_paths import flat_path, layer_path, metadata_path
from lazyfs.images import layer_records
from lazyfs.images.layer_reader import read_layer
from lazyfs.images.observer import PublishObserver
from lazyfs.images.snapshots import snapshot
from lazyfs.images.sources.image import Image, distinct
from lazyfs.images.start_files import add
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


class HashOnly:
    """An ObjectSink that claims to have every object, so that an ingest into it only hashes and never
    writes."""

    writers = min(os.cpu_count() or 1, 4)

    def has(self, digest: Digest) -> bool:  # noqa: ARG002
        return True

    def put(self, digest: Digest, frame: bytes) -> None:
        raise AssertionError(f"{digest.hex()} of {len(frame)} bytes put where everything is")


def compare(
    image: Image,
    place: str,
    tree: StoredTree,
    params: Params,
    observer: PublishObserver,
    bind_points: tuple[str, ...] = (),
) -> list[str]:
    """Returns the differences between the image and the one published at `place`, one line each.

    `bind_points`: those with which the image was published, without the standard ones. Layers are verified
    against digest and diff_id as they are read. Catalogs are deterministic, so equal digests mean equal
    trees. Raises the errors of the source.
    """
    problems = []
    flat = flat_path(image.config_digest)
    link = tree.find(place)
    if link is None:
        return [f"{place} is not published"]
    expected = "../" * place.count("/") + flat
    if link.entry.content != expected.encode():
        shown = link.entry.content.decode(errors="replace")
        return [f"{place} leads to {shown}, the registry's image is {expected}"]
    for name, data in (("manifest.json", image.manifest), ("config.json", image.config_bytes)):
        try:
            if tree.file(f"{metadata_path(place)}/{name}") != data:
                problems.append(f"{metadata_path(place)}/{name} differs from the registry's")
        except NotFound:
            problems.append(f"{metadata_path(place)}/{name} is missing")
    found = tree.find(flat)
    if found and found.catalog.version != VERSION:
        return [*problems, f"{flat} has an older format: publish the image again, then it can be compared"]
    with Ingest(HashOnly(), params) as ingest:
        layers: dict[Digest, list[Record]] = {}
        budget = EntryBudget()
        once = distinct(image)
        observer.image(image.name, len(once), sum(layer.blob.size for layer in once))
        first = {layer.diff_id: number for number, layer in reversed(list(enumerate(image.layers)))}
        for number, parts in image.read(sorted(first.values())):
            layer = image.layers[number]
            advance = observer.layer(layer.blob.name, layer.blob.size, kept=False)
            layers[layer.diff_id] = read_layer(
                layer.blob, parts, ingest.layer(), budget=budget, advance=advance
            )
        ingest.finish()
        for diff_id, records in layers.items():
            if layer_records.load(tree, diff_id) != records:
                problems.append(f"{layer_path(diff_id)}/records differs from the layer")
        stored = found.entry.nested if found else None
        if stored not in [_merged(image, layers, params, ingest, added) for added in (bind_points, None)]:
            problems.append(f"{flat} differs from the tree of the registry's layers")
    return problems


def _merged(
    image: Image,
    layers: dict[Digest, list[Record]],
    params: Params,
    ingest: Ingest,
    bind_points: tuple[str, ...] | None,
) -> ObjectRef:
    """Returns the catalog of the merged image. `bind_points`: those to add with the start-up files; None for
    a plain image, which has neither."""
    merge = Merge()
    for layer in image.layers:
        merge.start_layer()
        for record in layers[layer.diff_id]:
            merge.apply(record)
    if bind_points is not None:
        add(merge.root, image.config, ingest, bind_points)
    made: Inode = snapshot(merge.root, params, ingest)
    assert made.nested is not None
    return made.nested.ref
