"""The forms of an export that are images of layers: OCI layouts, and the archives of docker save.

If the repository keeps the records of all layers, each layer is written by itself. If the written archive is
byte for byte that of the source, the layer has its old diff_id; otherwise it gets a new one. Without records,
the merged tree is the only layer.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from isal import isal_zlib

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.layers.tar_writer import DIALECTS
from lazyfs.core.oci.exported_config import exported_config
from lazyfs.core.oci.manifest import OCI_MANIFEST
from lazyfs.core.oci.reference import parse
from lazyfs.images.exports.image import ExportedImage
from lazyfs.images.exports.layout_writers import LayoutWriter, named
from lazyfs.images.exports.output_file import ArchiveWriter
from lazyfs.images.exports.tar_stream import Advance, OtherDialect, kept_layer_tar, merged_layer_tar
from lazyfs.images.streams import Hashed

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_GZIP = 31
"""The value of zlib's wbits for a gzip stream."""


class WrittenLayer(NamedTuple):
    """A layer as it was written."""

    diff_id: Digest
    original: bool
    """True if `diff_id` is the one that the layer had at its source."""


class WrittenImage(NamedTuple):
    """An image as it was written."""

    config: Digest
    layers: list[WrittenLayer]


def write_oci(
    image: ExportedImage, layout: LayoutWriter, architecture: str, advance: Advance
) -> WrittenImage:
    """Writes an image into an OCI layout. `architecture`: that of an image without a config. Raises
    FormatError for what a layer's archive cannot hold, and as `ExportedImage.content`."""
    descriptors: list[dict[str, Any]] = []

    def write(parts: Iterator[bytes]) -> Digest:
        plain = Hashed(parts)
        blob = layout.blob(_gzipped(plain))
        descriptors.append(_descriptor(_LAYER_TYPE, blob))
        return plain.digest

    layers, order = _each_layer(image, advance, write)
    config = _config(image, [layers[number] for number in order], architecture)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(_CONFIG_TYPE, layout.blob([config])),
        "layers": [descriptors[number] for number in order],
    }
    written = _descriptor(OCI_MANIFEST, layout.blob([msgspec.json.encode(manifest)]))
    reference = _reference(image.place)
    tag = reference.rpartition(":")[2] if reference else "latest"
    layout.finish(named(written, reference or image.place, tag))
    return WrittenImage(sha256(config), [layers[number] for number in order])


def write_docker(
    image: ExportedImage, archive: ArchiveWriter, architecture: str, advance: Advance
) -> WrittenImage:
    """Writes an image as an archive of docker save. Parameters and exceptions are those of `write_oci`."""

    def write(parts: Iterator[bytes]) -> Digest:
        return archive.add_stream("", parts, ".tar").digest

    layers, order = _each_layer(image, advance, write)
    ordered = [layers[number] for number in order]
    config = _config(image, ordered, architecture)
    name = f"{sha256(config).hex()}.json"
    archive.add(name, config)
    reference = _reference(image.place)
    manifest = {
        "Config": name,
        "RepoTags": [reference] if reference else [],
        "Layers": [f"{layer.diff_id.hex()}.tar" for layer in ordered],
    }
    archive.add("manifest.json", msgspec.json.encode([manifest]))
    archive.end()
    return WrittenImage(sha256(config), ordered)


def _each_layer(
    image: ExportedImage, advance: Advance, write: Callable[[Iterator[bytes]], Digest]
) -> tuple[list[WrittenLayer], list[int]]:
    """Calls `write` once for each different layer. Returns the written layers, and for each layer of the
    image its number among them, since an image may have the same layer several times."""
    if image.layers is None:
        return [WrittenLayer(write(merged_layer_tar(image, advance)), original=False)], [0]
    written: dict[Digest, int] = {}
    layers: list[WrittenLayer] = []
    dialect = DIALECTS[0]
    for number, diff_id in enumerate(image.layers):
        if diff_id not in written:
            try:
                made = write(kept_layer_tar(image, number, dialect, advance))
            except OtherDialect as found:
                dialect = found.dialect  # the image's other layers are often of the same tool
                made = write(kept_layer_tar(image, number, dialect, advance))
            written[diff_id] = len(layers)
            layers.append(WrittenLayer(made, made == diff_id))
    return layers, [written[diff_id] for diff_id in image.layers]


def _config(image: ExportedImage, layers: list[WrittenLayer], architecture: str) -> bytes:
    diff_ids = [layer.diff_id for layer in layers]
    return exported_config(image.config, diff_ids, architecture, merged=image.layers is None)


def _descriptor(kind: str, blob: Hashed) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{blob.digest.hex()}", "size": blob.size}


def _gzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    compressor = isal_zlib.compressobj(wbits=_GZIP)
    for part in parts:
        if out := compressor.compress(part):
            yield out
    yield compressor.flush()


def _reference(place: str) -> str | None:
    """Returns the place unchanged if it is also an image reference with a tag; otherwise None."""
    try:
        found = parse(place)
    except UsageError:
        return None
    return place if found.tag and found.path == place else None
