"""An image becomes snapshots: its layers, the merged tree, manifest and config, and a link with its name."""

from collections.abc import Callable

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest
from lazyfs.core.errors import BadData, UsageError
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.oci.reference import parse
from lazyfs.core.params import Params
from lazyfs.publish.ingest import Ingest
from lazyfs.publish.layer import read_layer
from lazyfs.publish.snapshots import directory_of_files, link, snapshot
from lazyfs.publish.sources.image import Image


def flat_path(config: Digest) -> str:
    """Where an image's tree lies, whatever its names: `.flat/xx/<config digest>`."""
    digits = config.hex()
    return f".flat/{digits[:2]}/{digits}"


def metadata_path(place: str) -> str:
    """Where an image's manifest and config lie."""
    return f".metadata/{place}"


def publish_image(
    image: Image,
    wanted_place: str | None,
    params: Params,
    ingest: Ingest,
    warn: Callable[[str], None],
) -> tuple[str, dict[str, Inode]]:
    """(place, path -> what to hang there). Raises UsageError or BadData."""
    place = _place(image, wanted_place)
    layers = _layers(image, ingest)
    merge = Merge(lambda message: warn(f"{image.name}: {message}"))
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
    return place, {
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


def _layers(image: Image, ingest: Ingest) -> dict[Digest, list[Record]]:
    """diff_id -> records of every layer, each read once."""
    found: dict[Digest, list[Record]] = {}
    wanted = []
    seen: set[Digest] = set()
    for number, layer in enumerate(image.layers):
        if layer.diff_id not in seen:
            seen.add(layer.diff_id)
            wanted.append(number)
    for number, parts in image.read(wanted):
        layer = image.layers[number]
        found[layer.diff_id] = read_layer(layer.blob, parts, ingest)
    ingest.finish()
    return found
