"""Manifests, indexes and configs: OCI image-spec 1.1 and Docker's version 2 schema 2, read strictly enough to
refuse what cannot be published, with the reason."""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or index: what registries themselves accept."""
MAX_CONFIG = 8 << 20
MAX_LAYERS = 1024

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
REF_NAME = "org.opencontainers.image.ref.name"

_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar"
    r"|docker\.image\.rootfs(?:\.foreign)?\.diff\.tar)(?:[.+](?:gzip|zstd))?"
)
_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: the second for text in JSON that is not UTF-8, the third for a thousand brackets."""
_FOREIGN = ("nondistributable", ".foreign.")


class Platform(msgspec.Struct, frozen=True):
    """Go's names: GOOS, GOARCH, GOARM as vN."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True):
    """One blob as a manifest names it."""

    digest: str
    size: int
    media_type: str = msgspec.field(name="mediaType", default="")
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    @property
    def hash(self) -> Digest:
        """The digest's 32 bytes; raises FormatError for another algorithm."""
        return parse_hex(self.digest)


class _Document(msgspec.Struct):
    schema_version: int = msgspec.field(name="schemaVersion", default=0)
    media_type: str = msgspec.field(name="mediaType", default="")
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    fs_layers: Any = msgspec.field(name="fsLayers", default=None)
    artifact_type: str = msgspec.field(name="artifactType", default="")


class Manifest(NamedTuple):
    """One image's parts."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(NamedTuple):
    """One image for several platforms, or several images."""

    manifests: tuple[Descriptor, ...]


_document = msgspec.json.Decoder(_Document)


def parse(data: bytes, name: str) -> Manifest | Index:
    """Reads a manifest or an index; `name` is what errors call it. Raises FormatError: for schema 1, for
    foreign layers (named), for an artifact that is no image."""
    if len(data) > MAX_MANIFEST:
        raise FormatError(f"{name}: manifest of {len(data)} bytes, over {MAX_MANIFEST}")
    try:
        document = _document.decode(data)
    except _NOT_JSON as error:
        raise FormatError(f"{name}: not an image manifest: {error}") from None
    if document.fs_layers is not None or document.schema_version == 1:
        raise FormatError(
            f"{name}: manifest of schema 1, which states no digests of the unpacked layers: push the image "
            "again with a current tool, or convert it with skopeo copy --format=v2s2"
        )
    if document.manifests is not None:
        for entry in document.manifests:
            _check(entry, name)
        return Index(tuple(document.manifests))
    if document.config is None or document.layers is None:
        raise FormatError(f"{name}: not an image manifest: it names no config or no layers")
    if len(document.layers) > MAX_LAYERS:
        raise FormatError(f"{name}: manifest of {len(document.layers)} layers, over {MAX_LAYERS}")
    _check(document.config, name)
    for number, layer in enumerate(document.layers):
        _check(layer, name)
        if layer.media_type and not _LAYER.fullmatch(layer.media_type):
            raise FormatError(
                f"{name}: layer {number} ({layer.digest}) has media type {layer.media_type!r}: not an image"
            )
        if layer.urls or any(part in layer.media_type for part in _FOREIGN):
            raise FormatError(
                f"{name}: layer {number} ({layer.digest}) is a foreign layer, kept outside the registry "
                "(Windows base images have them): it cannot be published"
            )
    return Manifest(document.config, tuple(document.layers))


def _check(descriptor: Descriptor, name: str) -> None:
    if descriptor.size < 0:
        raise FormatError(f"{name}: blob {descriptor.digest} has size {descriptor.size}")
    try:
        parse_hex(descriptor.digest)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    if not descriptor.digest.startswith("sha256:"):
        raise FormatError(f"{name}: digest {descriptor.digest!r} has no algorithm")


class RootFs(msgspec.Struct, frozen=True):
    """The layers' uncompressed digests, lowest first."""

    diff_ids: list[str] = []
    type: str = "layers"


class RunConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """What a runtime starts with."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str = ""
    user: str = ""
    labels: dict[str, str] | None = None


class Config(msgspec.Struct, frozen=True):
    """An image's config; its digest is the image id."""

    rootfs: RootFs
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None
    config: RunConfig | None = None

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        return tuple(parse_hex(text) for text in self.rootfs.diff_ids)

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant)

    @property
    def created_ns(self) -> int:
        """When the image was made, nanoseconds since 1970; 0 if it does not say."""
        try:
            moment = datetime.fromisoformat(self.created or "")
        except ValueError:
            return 0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


_config = msgspec.json.Decoder(Config)


def parse_config(data: bytes, name: str, layers: int | None = None) -> Config:
    """Reads the config of an image with that many layers, or with any number. Raises FormatError."""
    if len(data) > MAX_CONFIG:
        raise FormatError(f"{name}: config of {len(data)} bytes, over {MAX_CONFIG}")
    try:
        config = _config.decode(data)
        found = len(config.diff_ids)
    except (*_NOT_JSON, FormatError) as error:
        raise FormatError(f"{name}: not an image config: {error}") from None
    if layers is not None and found != layers:
        raise FormatError(f"{name}: the config names {found} layers, the manifest {layers}")
    return config


class ArchivedImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One image of a docker-archive's manifest.json; paths are inside the archive."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


_archive = msgspec.json.Decoder(list[ArchivedImage])


def parse_archive(data: bytes, name: str) -> list[ArchivedImage]:
    """Reads the manifest.json of `docker save`. Raises FormatError."""
    try:
        return _archive.decode(data)
    except _NOT_JSON as error:
        raise FormatError(f"{name}: manifest.json is not one of docker save: {error}") from None
