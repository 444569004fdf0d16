"""Turns an image into a link and snapshots: of its layers, of the merged tree, of manifest and config."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import BadData, NotFound
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.core.tree_paths import flat_path, layer_path, metadata_path
from lazyfs.images.layer_reader import read_layer
from lazyfs.images.layer_records import keep, load
from lazyfs.images.observer import PublishObserver
from lazyfs.images.snapshots import directory_of_files, link, snapshot
from lazyfs.images.sources.image import Image, distinct
from lazyfs.images.start_files import add
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


def published_config(tree: StoredTree, place: str, digest: Digest) -> bytes | None:
    """Returns the config of the image published at the place if it has this digest, otherwise None."""
    try:
        config = tree.file(f"{metadata_path(place)}/config.json")
    except NotFound:
        return None
    return config if sha256(config) == digest else None


def image_changes(
    image: Image,
    place: str,
    tree: StoredTree,
    params: Params,
    ingest: Ingest,
    observer: PublishObserver,
    *,
    plain: bool,
    bind_points: tuple[str, ...] = (),
) -> dict[str, Inode]:
    """Writes an image's contents and catalogs. Returns, for each path of the tree that changes, the link or
    snapshot to put there.

    With `plain` only the image's own files are in the tree. Otherwise the entries that it needs to be run are
    added (`start_files`), and `bind_points`, directories besides the standard ones. Raises BadData for a
    layer that is damaged or cannot be merged, and the errors of the source.
    """
    for note in image.notes:
        observer.warn(f"{image.name}: {note}")
    once = distinct(image)
    observer.image(image.name, len(once), sum(layer.blob.size for layer in once))
    layers, fresh = _layers(image, tree, ingest, observer)
    changes = {layer_path(diff_id): keep(layers[diff_id], params, ingest) for diff_id in fresh}
    for diff_id in layers.keys() - set(fresh):  # another publisher may remove it meanwhile
        kept = tree.inode_at(layer_path(diff_id))
        if kept is not None:
            changes[layer_path(diff_id)] = kept
    root = merged(
        ((layer.blob.name, layers[layer.diff_id]) for layer in image.layers),
        lambda message: observer.warn(f"{image.name}: {message}"),
    )
    if not plain:
        add(root, image.config, ingest, bind_points)
    created = image.config.created_ns
    flat = flat_path(image.config_digest)
    return changes | {
        flat: snapshot(root, params, ingest),
        metadata_path(place): metadata(image.manifest, image.config_bytes, created, params, ingest),
        place: link("../" * place.count("/") + flat, created),
    }


def merged(layers: Iterable[tuple[str, list[Record]]], warn: Callable[[str], None]) -> Inode:
    """Merges layers, given as (name, records) from the lowest up; returns the root of the merged tree. Raises
    BadData for a layer that cannot be merged."""
    merge = Merge(warn)
    for name, records in layers:
        merge.start_layer()
        try:
            for record in records:
                merge.apply(record)
        except BadData as error:
            raise type(error)(f"{name}: {error}") from None
    return merge.root


def metadata(manifest: bytes, config: bytes, created: int, params: Params, ingest: Ingest) -> Inode:
    """Writes an image's manifest and config; returns the snapshot to put at `metadata_path`."""
    files = {b"manifest.json": manifest, b"config.json": config}
    return snapshot(directory_of_files(files, created, ingest), params, ingest)


def _layers(
    image: Image, tree: StoredTree, ingest: Ingest, observer: PublishObserver
) -> tuple[dict[Digest, list[Record]], list[Digest]]:
    """Returns the records of every layer by diff_id, and the diff_ids of the layers that are not in the tree
    yet."""
    found: dict[Digest, list[Record]] = {}
    fresh: list[Digest] = []
    wanted = []
    for number, layer in enumerate(image.layers):
        if layer.diff_id in found or layer.diff_id in fresh:
            continue
        kept = load(tree, layer.diff_id)
        if kept is not None:
            found[layer.diff_id] = kept
            observer.layer(layer.blob.name, layer.blob.size, kept=True)
        else:
            wanted.append(number)
            fresh.append(layer.diff_id)
    return found | _read(image, wanted, ingest, observer), fresh


def _read(
    image: Image, wanted: Sequence[int], ingest: Ingest, observer: PublishObserver
) -> dict[Digest, list[Record]]:
    """Returns the records of the layers with these numbers, by diff_id."""
    found: dict[Digest, list[Record]] = {}
    budget = EntryBudget()
    with closing(image.read(wanted)) as reading:  # an error also ends the downloads of later layers
        for number, parts in reading:
            layer = image.layers[number]
            advance = observer.layer(layer.blob.name, layer.blob.size, kept=False)
            found[layer.diff_id] = read_layer(
                layer.blob, parts, ingest.layer(), budget=budget, advance=advance, note=observer.warn
            )
    ingest.finish()
    return found


def layer_changes(
    image: Image, wanted: Collection[Digest], params: Params, ingest: Ingest, observer: PublishObserver
) -> dict[str, Inode]:
    """Writes the contents of the layers of an image whose diff_ids are `wanted`. Returns, for each path of
    the tree that changes, the snapshot to put there. Raises as `image_changes`."""
    numbers = {layer.diff_id: number for number, layer in enumerate(image.layers) if layer.diff_id in wanted}
    read = _read(image, list(numbers.values()), ingest, observer)
    return {layer_path(diff_id): keep(records, params, ingest) for diff_id, records in read.items()}
