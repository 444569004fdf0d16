"""The defaults that an image has for a start: environment, working directory, entry point, command."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from lazyfs.core.foreign_text import check_text
from lazyfs.core.oci.run_config import MAX_CONFIG, parse_run_config
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.records import NOTHING

_SINGULARITY_ENVIRONMENT = "/.singularity.d/env/10-docker2singularity.sh"
_SINGULARITY_RUNSCRIPT = "/.singularity.d/runscript"
_MAX_SCRIPT = 1 << 20
"""The largest size, in bytes, of singularity's environment script: eight times the size that Linux allows for
one variable."""


class ImageDefaults(NamedTuple):
    """A root filesystem and the image's defaults; empty where the image has none."""

    root: str
    environment: Mapping[str, str] = NOTHING
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    default_arguments: tuple[str, ...] = ()
    described_by: str | None = None
    """Path of the file that the defaults were read from."""


def from_config(root: str, raw: bytes, origin: str) -> ImageDefaults:
    """Reads an OCI image configuration, and returns the defaults that it states for the root filesystem at
    `root`. `origin`: the configuration's name in errors. Raises FormatError."""
    run = parse_run_config(raw, origin)
    return ImageDefaults(
        root,
        run.environment,
        run.working_dir or "/",
        tuple(run.entrypoint),
        tuple(run.cmd),
        origin,
    )


def from_singularity(root: str) -> ImageDefaults | None:
    """Reads the defaults that DUCC and apptainer write into the directory tree of an image; returns None if
    there are none."""
    raw = path_in_image.read(root, _SINGULARITY_ENVIRONMENT, _MAX_SCRIPT)
    if raw is None:
        return None
    environment = dict(_exports(raw.decode(errors="surrogateescape")))
    for name, value in environment.items():
        check_text(value, f"{root}{_SINGULARITY_ENVIRONMENT}: {name}")
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
    found = (_EXPORT.match(line.strip()) for line in script.split("\n"))
    return [
        (
            match["name"],
            re.sub(r"\\(.)", r"\1", match["value"] if match["default"] is None else match["default"]),
        )
        for match in found
        if match
    ]


def describe(root: str, metadata: str | None) -> ImageDefaults:
    """Returns the root filesystem at `root` with its defaults. `metadata`: the directory with the image's
    config.json; None if it has none."""
    if metadata is not None:
        raw = path_in_image.read(metadata, "/config.json", MAX_CONFIG)
        if raw is not None:
            return from_config(root, raw, os.path.join(metadata, "config.json"))
    return from_singularity(root) or ImageDefaults(root)


def command_line(image: ImageDefaults, arguments: tuple[str, ...], *, entrypoint: bool) -> tuple[str, ...]:
    """Returns the command to run: the given `arguments`, after the image's entry point if `entrypoint` is
    set. Without arguments, returns the image's entry point and default command."""
    if arguments:
        return (*image.entrypoint, *arguments) if entrypoint else arguments
    return (*image.entrypoint, *image.default_arguments)
