"""An image becomes snapshots: its layers, the merged tree, manifest and config, and a link with its name."""

from contextlib import closing

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import BadData, NotFound, UsageError
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.oci.reference import parse
from lazyfs.core.params import FLAT, Params
from lazyfs.images.layer_reader import read_layer
from lazyfs.images.layer_records import keep, layer_path, load
from lazyfs.images.observer import Watch
from lazyfs.images.snapshots import directory_of_files, link, snapshot
from lazyfs.images.sources.image import Image
from lazyfs.images.start_files import add
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


def flat_path(config: Digest) -> str:
    """Where an image's tree lies, whatever its names: `.flat/xx/<config digest>`."""
    digits = config.hex()
    return f"{FLAT.decode()}/{digits[:2]}/{digits}"


def metadata_path(place: str) -> str:
    """Where an image's manifest and config lie."""
    return f".metadata/{place}"


def published_config(tree: StoredTree, place: str, digest: Digest) -> bytes | None:
    """The config with this digest, if the image published at the place has it."""
    try:
        config = tree.file(f"{metadata_path(place)}/config.json")
    except NotFound:
        return None
    return config if sha256(config) == digest else None


def publish_image(
    image: Image,
    wanted_place: str | None,
    tree: StoredTree,
    params: Params,
    ingest: Ingest,
    watch: Watch,
    *,
    plain: bool,
) -> tuple[str, dict[str, Inode]]:
    """(place, path -> what to hang there). With `plain` nothing is added to what the layers say. Raises
    UsageError or BadData."""
    place = _place(image, wanted_place)
    for note in image.notes:
        watch.warn(f"{image.name}: {note}")
    layers, fresh = _layers(image, tree, ingest, watch)
    changes = {layer_path(diff_id): keep(layers[diff_id], params, ingest) for diff_id in fresh}
    merge = Merge(lambda message: watch.warn(f"{image.name}: {message}"))
    for layer in image.layers:
        merge.start_layer()
        try:
            for record in layers[layer.diff_id]:
                merge.apply(record)
        except BadData as error:
            raise type(error)(f"{layer.blob.name}: {error}") from None
    created = image.config.created_ns
    flat = flat_path(image.config_digest)
    files = {b"manifest.json": image.manifest, b"config.json": image.config_bytes}
    metadata = directory_of_files(files, created, ingest)
    if not plain:
        add(merge.root, image.config, ingest)
    return place, changes | {
        flat: snapshot(merge.root, params, ingest),
        metadata_path(place): snapshot(metadata, params, ingest),
        place: link("../" * place.count("/") + flat, created),
    }


def _place(image: Image, wanted: str | None) -> str:
    if wanted:
        return parse(wanted).path
    if image.place is None:
        raise UsageError(f"{image.name} has no name of its own: give one with --as registry/repository:tag")
    return image.place


def _layers(
    image: Image, tree: StoredTree, ingest: Ingest, watch: Watch
) -> tuple[dict[Digest, list[Record]], list[Digest]]:
    """diff_id -> records of every layer, and which of them were read now because the store lacks them."""
    found: dict[Digest, list[Record]] = {}
    fresh: list[Digest] = []
    wanted = []
    for number, layer in enumerate(image.layers):
        if layer.diff_id in found or layer.diff_id in fresh:
            continue
        kept = load(tree, layer.diff_id)
        if kept is not None:
            found[layer.diff_id] = kept
            watch.layer(layer.blob.name, layer.blob.size, kept=True)
        else:
            wanted.append(number)
            fresh.append(layer.diff_id)
    with closing(image.read(wanted)) as reading:  # an error ends what is being fetched ahead
        for number, parts in reading:
            layer = image.layers[number]
            advance = watch.layer(layer.blob.name, layer.blob.size, kept=False)
            found[layer.diff_id] = read_layer(layer.blob, parts, ingest, advance=advance, note=watch.warn)
    ingest.finish()
    return found, fresh
