"""What an image is: config, layers, sizes, platforms; of a source, or as published."""

import msgspec

from lazyfs.core.digest import parse_hex
from lazyfs.core.errors import FormatError, NotFound, UsageError
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.oci.run_config import RunConfig
from lazyfs.images.image_tree import metadata_path
from lazyfs.images.layer_records import layer_path
from lazyfs.images.sources.image import Image
from lazyfs.images.sources.registry_image import RegistryImage
from lazyfs.repository.diff import resolve
from lazyfs.repository.stored_tree import StoredTree


class LayerFacts(msgspec.Struct):
    """One layer."""

    diff_id: str
    size: int
    """Stored bytes at the source; as published, bytes of its files."""
    entries: int | None = None


class Facts(msgspec.Struct):
    """One image."""

    name: str
    id: str
    """Digest of its config."""
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
    """Those of the index it was chosen from."""
    entries: int | None = None
    """As published: names in its tree, nested catalogs included."""
    bytes: int | None = None
    """As published: bytes of its files."""


def of_source(image: Image) -> Facts:
    """What a source says."""
    facts = _facts(image.name, image.config_bytes, f"sha256:{image.config_digest.hex()}", len(image.layers))
    facts.layers = [LayerFacts(f"sha256:{item.diff_id.hex()}", item.blob.size) for item in image.layers]
    if isinstance(image, RegistryImage) and image.index:
        facts.platforms = [str(entry.platform) for entry in image.index.manifests if entry.platform]
    return facts


def of_published(tree: StoredTree, place: str) -> Facts:
    """What the repository has under an image's name. Raises UsageError if that is no image."""
    link = tree.find(place)
    if link is None:
        raise UsageError(f"{place} is not in the repository")
    flat = resolve(tree, place).place
    try:
        config = tree.file(f"{metadata_path(place)}/config.json")
        digest = parse_hex(link.entry.content.decode(errors="replace").rpartition("/")[2])
    except (NotFound, FormatError):
        raise UsageError(f"{place} is no image: it has no config under {metadata_path(place)}") from None
    diff_ids = parse_config(config, place, None).rootfs.diff_ids
    facts = _facts(place, config, f"sha256:{digest.hex()}", len(diff_ids))
    for diff_id in diff_ids:
        kept = tree.find(f"{layer_path(parse_hex(diff_id))}/layerfs")
        totals = kept.catalog.header.totals if kept else None
        facts.layers.append(
            LayerFacts(diff_id, totals.bytes if totals else 0, totals.entries if totals else None)
        )
    totals = flat.catalog.header.totals
    facts.entries, facts.bytes = totals.entries, totals.bytes
    return facts


def _facts(name: str, config_bytes: bytes, digest: str, layers: int) -> Facts:
    config = parse_config(config_bytes, name, layers)
    run = config.config or RunConfig()
    return Facts(
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
        layers=[],
        platforms=[],
    )
