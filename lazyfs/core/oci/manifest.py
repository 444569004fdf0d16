"""Manifests, indexes and configs: OCI image-spec 1.1 and Docker's version 2 schema 2. Images that cannot be
published are refused with the reason."""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError
from lazyfs.core.oci import json_text
from lazyfs.core.oci.container_config import RunConfig
from lazyfs.core.oci.run_config import MAX_CONFIG as MAX_CONFIG
from lazyfs.core.printable import printable
from lazyfs.core.struct_types import analyse

MAX_MANIFEST = 4 << 20
"""The largest number of bytes of a manifest or index: the limit of registries themselves."""
MAX_LAYERS = 1024
_MAX_TIME = _MAX_SIZE = (1 << 63) - 1

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
"""The annotation with the whole image reference in layouts of docker and containerd, where the annotation
REF_NAME has only the tag."""

_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar"
    r"|docker\.image\.rootfs(?:\.foreign)?\.diff\.tar)(?:[.+](?:gzip|zstd))?"
)
_FOREIGN = ("nondistributable", ".foreign.")


class Platform(msgspec.Struct, frozen=True):
    """The platform of an image, in Go's names: GOOS, GOARCH, and as variant GOARM in the form `vN`."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return printable("/".join(part for part in (self.os, self.architecture, self.variant) if part), 60)


class Descriptor(msgspec.Struct, frozen=True):
    """One blob as a manifest names it."""

    digest: str
    size: int
    media_type: str = msgspec.field(name="mediaType", default="")
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = msgspec.field(name="artifactType", default="")

    @property
    def hash(self) -> Digest:
        """The digest's 32 bytes; raises FormatError for another algorithm."""
        return parse_hex(self.digest)


class _Document(msgspec.Struct):
    schema_version: int = msgspec.field(name="schemaVersion", default=0)
    media_type: str = msgspec.field(name="mediaType", default="")
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Any] | None = None
    fs_layers: Any = msgspec.field(name="fsLayers", default=None)


class Manifest(NamedTuple):
    """One image's parts."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(NamedTuple):
    """One image for several platforms, or several images."""

    manifests: tuple[Descriptor, ...]


def parse(data: bytes, name: str) -> Manifest | Index:
    """Reads a manifest or an index, which errors call `name`. Raises FormatError for schema 1, for a foreign
    layer, which the message names, and for an artifact that is not an image."""
    what = "an image manifest"
    if len(data) > MAX_MANIFEST:
        raise FormatError(f"{name}: manifest of {len(data)} bytes, over {MAX_MANIFEST}")
    document = json_text.convert(json_text.decode(data, name, what), _Document, name, what)
    if document.fs_layers is not None or document.schema_version == 1:
        raise FormatError(
            f"{name}: manifest of schema 1, which states no digests of the unpacked layers: push the image "
            "again with a current tool, or convert it with skopeo copy --format=v2s2"
        )
    if document.manifests is not None or document.media_type in (OCI_INDEX, DOCKER_LIST):
        return _index(document.manifests or [], name)
    if document.config is None:
        raise FormatError(f"{name}: not an image manifest: it names no config")
    return _manifest(document.config, document.layers or [], name)


def refuse_schema1(data: bytes, name: str) -> None:
    """Raises the FormatError of `parse` if this is a manifest of schema 1."""
    try:
        parse(data, name)
    except FormatError as error:
        if "schema 1" in str(error):
            raise


def _index(entries: list[Any], name: str) -> Index:
    """Returns the index with the entries that can be read. An index may also list signatures and future kinds
    of entries: entries with an unknown kind of digest or form are left out. Raises FormatError if it has
    entries and none of them can be read."""
    readable = []
    problem: FormatError | None = None
    for entry in entries:
        try:
            descriptor = json_text.convert(entry, Descriptor, name, "an index")
            _check(descriptor, name)
            readable.append(descriptor)
        except FormatError as error:
            problem = error
    if problem and not readable:
        raise problem
    return Index(tuple(readable))


def _manifest(config: Descriptor, layers: list[Descriptor], name: str) -> Manifest:
    if len(layers) > MAX_LAYERS:
        raise FormatError(f"{name}: manifest of {len(layers)} layers, over {MAX_LAYERS}")
    _check(config, name)
    for number, layer in enumerate(layers):
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
    return Manifest(config, tuple(layers))


def _check(descriptor: Descriptor, name: str) -> None:
    if not 0 <= descriptor.size <= _MAX_SIZE:
        raise FormatError(f"{name}: blob {printable(descriptor.digest, 80)} has size {descriptor.size}")
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


class Config(msgspec.Struct, frozen=True):
    """An image's config; its digest is the image id."""

    rootfs: RootFs = RootFs()
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
        """The image's creation time in nanoseconds since 1970; 0 if none is stated. A time outside the range
        of 64 bits (1677 to 2262) becomes the nearest one in it."""
        stated = self.created_stated_ns
        return max(-_MAX_TIME, min(stated, _MAX_TIME))

    @property
    def created_stated_ns(self) -> int:
        """The stated creation time in nanoseconds since 1970, without a limit. Go writes year 1 for no
        time."""
        try:
            moment = datetime.fromisoformat((self.created or "").strip().upper())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            if moment.year == 1:
                return 0
            since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        except (ValueError, OverflowError):
            return 0
        return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def parse_config(data: bytes, name: str, layers: int | None = None) -> Config:
    """Reads the config of an image with `layers` layers; None: as many as the config names. Raises
    FormatError."""
    what = "an image config"
    if len(data) > MAX_CONFIG:
        raise FormatError(f"{name}: config of {len(data)} bytes, over {MAX_CONFIG}")
    document = json_text.decode(data, name, what)
    if isinstance(document, dict):
        _mend(document)
    config = json_text.convert(document, Config, name, what)
    try:
        found = len(config.diff_ids)
    except FormatError as error:
        raise FormatError(f"{name}: not an image config: {error}") from None
    if layers is not None and found != layers:
        raise FormatError(f"{name}: the config names {found} layers, the manifest {layers}")
    _refuse_nul(config.config or RunConfig(), name)
    return config


def _mend(document: dict[str, Any]) -> None:
    """Accepts forms that Docker takes and the OCI specification does not know: a command as one string,
    labels that are numbers, invalid times."""
    if not isinstance(document.get("created", ""), str):
        del document["created"]
    run = document.get("config")
    if run == "" or run == []:  # PHP and Lua write an empty object as an empty list
        del document["config"]
    if not isinstance(run, dict):
        return
    for key in ("Cmd", "Entrypoint", "Env"):
        if isinstance(run.get(key), str):
            run[key] = [run[key]]
        elif isinstance(run.get(key), list):
            run[key] = ["" if item is None else item for item in run[key]]
    labels = run.get("Labels")
    if isinstance(labels, dict):
        run["Labels"] = {
            key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for key, value in labels.items()
        }
    elif labels == []:
        del run["Labels"]


def _refuse_nul(run: RunConfig, name: str) -> None:
    """Raises FormatError for a NUL: an argument ends at it, and the text behind it would become another
    one."""
    fields = {
        "Env": run.env,
        "Entrypoint": run.entrypoint,
        "Cmd": run.cmd,
        "WorkingDir": [run.working_dir or ""],
        "User": [run.user or ""],
        "Labels": [text for pair in (run.labels or {}).items() for text in pair],
    }
    for field, values in fields.items():
        for value in values or []:
            if "\0" in value:
                raise FormatError(
                    f"{name}: the config's {field} has a NUL in {ascii(value)[:80]}: correct the image"
                )


class ArchivedImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One image of a docker-archive's manifest.json; paths are inside the archive."""

    config: str
    layers: list[str] = []
    repo_tags: list[str] | None = None


def parse_archive(data: bytes, name: str) -> list[ArchivedImage]:
    """Reads the manifest.json of `docker save`. Raises FormatError."""
    what = "a manifest.json of docker save"
    return json_text.convert(json_text.decode(data, name, what), list[ArchivedImage], name, what)


analyse(_Document, Descriptor, Config, ArchivedImage)  # images are read side by side
