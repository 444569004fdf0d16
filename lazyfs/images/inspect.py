"""The facts of an image, at its source or as published: config, layers, sizes, platforms."""

import msgspec

from lazyfs.core.catalog.layout import Totals
from lazyfs.core.digest import parse_hex
from lazyfs.core.errors import FormatError, NotFound, UsageError
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.tree_paths import layer_path, metadata_path
from lazyfs.images.sources.image import Image
from lazyfs.images.sources.registry_image import RegistryImage
from lazyfs.repository.diff import resolve
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree


class LayerFacts(msgspec.Struct):
    """The facts of one layer."""

    diff_id: str
    size: int
    """The size of the layer in bytes: at a source that of its blob, which may be compressed; as published
    that of the files in it."""
    entries: int | None = None


class ImageFacts(msgspec.Struct):
    """The facts of one image."""

    name: str
    id: str
    """Digest of the image's config."""
    platform: str
    created: str | None
    env: list[str]
    entrypoint: list[str]
    cmd: list[str]
    working_dir: str
    user: str
    labels: dict[str, str]
    layers: list[LayerFacts]
    platforms: list[str]
    """The platforms in the index from which the image was chosen."""
    entries: int | None = None
    """As published: names in the image's tree, nested catalogs included."""
    bytes: int | None = None
    """As published: bytes of the image's files."""


def of_source(image: Image) -> ImageFacts:
    """Returns the facts that a source states."""
    layers = [LayerFacts(f"sha256:{item.diff_id.hex()}", item.blob.size) for item in image.layers]
    index = image.index if isinstance(image, RegistryImage) else None
    platforms = [str(entry.platform) for entry in index.manifests if entry.platform] if index else []
    digest = f"sha256:{image.config_digest.hex()}"
    return _facts(image.name, image.config_bytes, digest, layers, platforms)


def of_published(tree: StoredTree, name: str) -> ImageFacts:
    """Returns the facts of the image published under a name. Raises UsageError if there is none."""
    place = find_place(tree, name)
    link = tree.find(place)
    assert link is not None
    flat = resolve(tree, place).node
    try:
        config = tree.file(f"{metadata_path(place)}/config.json")
        digest = parse_hex(link.entry.content.decode(errors="replace").rpartition("/")[2])
    except (NotFound, FormatError):
        raise UsageError(f"{place} is no image: it has no config under {metadata_path(place)}") from None
    diff_ids = parse_config(config, f"{metadata_path(place)}/config.json").rootfs.diff_ids
    layers = [_published_layer(tree, diff_id) for diff_id in diff_ids]
    return _facts(place, config, f"sha256:{digest.hex()}", layers, [], flat.catalog.header.totals)


def _published_layer(tree: StoredTree, diff_id: str) -> LayerFacts:
    kept = tree.find(f"{layer_path(parse_hex(diff_id))}/layerfs")
    if kept is None:
        return LayerFacts(diff_id, 0)
    totals = kept.catalog.header.totals
    return LayerFacts(diff_id, totals.bytes, totals.entries)


def _facts(
    name: str,
    config_bytes: bytes,
    digest: str,
    layers: list[LayerFacts],
    platforms: list[str],
    totals: Totals | None = None,
) -> ImageFacts:
    config = parse_config(config_bytes, name, len(layers))
    run = config.config or RunConfig()
    return ImageFacts(
        name=name,
        id=digest,
        platform=str(config.platform),
        created=config.created,
        env=run.env or [],
        entrypoint=run.entrypoint or [],
        cmd=run.cmd or [],
        working_dir=run.working_dir or "",
        user=run.user or "",
        labels=run.labels or {},
        layers=layers,
        platforms=platforms,
        entries=totals.entries if totals else None,
        bytes=totals.bytes if totals else None,
    )
