"""What an image says of how it wants to be started."""

import os
import re
from dataclasses import dataclass, field

import msgspec

from lazyfs.core.errors import FormatError
from lazyfs.runtimes import path_in_image

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SINGULARITY_ENVIRONMENT = "/.singularity.d/env/10-docker2singularity.sh"
_SINGULARITY_RUNSCRIPT = "/.singularity.d/runscript"


@dataclass(frozen=True, slots=True)
class ImageDefaults:
    """A root filesystem and its defaults; empty where the image says nothing."""

    root: str
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    default_arguments: tuple[str, ...] = ()
    described_by: str | None = None
    """The file the defaults were read from."""


class _Settings(msgspec.Struct):
    """`config` of an OCI image configuration (image-spec, config.md)."""

    Env: list[str] | None = None
    WorkingDir: str | None = None
    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None


class _Config(msgspec.Struct):
    config: _Settings | None = None


def from_config(root: str, raw: bytes, origin: str) -> ImageDefaults:
    """Reads an OCI image configuration; `origin` names it in errors. Raises FormatError."""
    try:
        settings = msgspec.json.decode(raw, type=_Config).config or _Settings()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{origin}: not an image configuration: {error}") from error
    environment = dict(entry.split("=", 1) for entry in settings.Env or [] if "=" in entry)
    return ImageDefaults(
        root,
        environment,
        settings.WorkingDir or "/",
        tuple(settings.Entrypoint or ()),
        tuple(settings.Cmd or ()),
        origin,
    )


def from_singularity(root: str) -> ImageDefaults | None:
    """Reads what DUCC and apptainer leave in a flat image; None if there is no such file."""
    raw = path_in_image.read(root, _SINGULARITY_ENVIRONMENT)
    if raw is None:
        return None
    environment = dict(_exports(raw.decode(errors="surrogateescape")))
    _, missing = path_in_image.resolve(root, _SINGULARITY_RUNSCRIPT)
    entrypoint = () if missing else ("/bin/sh", _SINGULARITY_RUNSCRIPT)
    return ImageDefaults(
        root, environment, entrypoint=entrypoint, described_by=root + _SINGULARITY_ENVIRONMENT
    )


# export NAME="value"   and   export NAME="${NAME:-"value"}"
_EXPORT = re.compile(
    r'^export (?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?:"\$\{(?P=name):-"(?P<default>.*)"\}"|"(?P<value>.*)")$'
)


def _exports(script: str) -> list[tuple[str, str]]:
    found = (_EXPORT.match(line.strip()) for line in script.splitlines())
    return [
        (
            match["name"],
            re.sub(r"\\(.)", r"\1", match["value"] if match["default"] is None else match["default"]),
        )
        for match in found
        if match
    ]


def describe(root: str, metadata: str | None) -> ImageDefaults:
    """The image at `root`; `metadata` is the directory that holds its config.json, where there is one."""
    if metadata is not None:
        path = os.path.join(metadata, "config.json")
        try:
            with open(path, "rb") as file:
                return from_config(root, file.read(), path)
        except FileNotFoundError:
            pass
    return from_singularity(root) or ImageDefaults(root)


def command_line(image: ImageDefaults, arguments: tuple[str, ...], *, entrypoint: bool) -> tuple[str, ...]:
    """`arguments` as given; with none, or with `entrypoint`, the image's own entry point comes first."""
    if arguments:
        return (*image.entrypoint, *arguments) if entrypoint else arguments
    return (*image.entrypoint, *image.default_arguments)
