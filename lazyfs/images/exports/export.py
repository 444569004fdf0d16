"""Exports one image of a repository into one of five forms."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.platform import parse_platform
from lazyfs.images.exports.image import ExportedImage
from lazyfs.images.exports.layout_writers import LayoutArchive, LayoutDirectory
from lazyfs.images.exports.oci_forms import WrittenImage, write_docker, write_oci
from lazyfs.images.exports.output_file import ArchiveWriter, output_file
from lazyfs.images.exports.sif_form import write_sif
from lazyfs.images.exports.tar_stream import Advance, tree_tar
from lazyfs.system.durable_file import write_all

FORMS = ("oci", "oci-archive", "docker-archive", "tar", "sif")
STDOUT = "-"


class Target(NamedTuple):
    """The place and form of an export."""

    form: str
    path: str
    """The path of the file to write; for the form `oci`, that of a directory."""

    def __str__(self) -> str:
        return f"{self.form}:{self.path}"


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export."""

    replace: bool = False
    """True to replace a file that exists at the target's path."""
    machine: str = field(default_factory=lambda: os.uname().machine)
    """The architecture of a tree that states none."""
    warn: Callable[[str], None] = lambda _message: None
    advance: Advance = lambda _count: None


class ExportReport(NamedTuple):
    """The outcome of an export."""

    bytes_read: int
    """Bytes of the files' contents that were read. Those of a layer count twice if it had to be written again
    in another tar dialect (see `OtherDialect`)."""
    image: WrittenImage | None
    """The image as written; None for a form without layers."""


def parse_target(text: str) -> Target:
    """Reads `FORM:PATH`; returns the Target. Raises UsageError."""
    form, colon, path = text.partition(":")
    if not colon or form not in FORMS or not path:
        raise UsageError(
            f"{text}: give the target as oci:DIR, oci-archive:FILE, docker-archive:FILE, tar:FILE or sif:FILE"
        )
    if path == STDOUT and form != "tar":
        raise UsageError(f"{text}: only tar: can be written to the standard output; give a file")
    return Target(form, path)


def export(image: ExportedImage, target: Target, options: ExportOptions) -> ExportReport:
    """Exports an image. A file gets its name only when it is complete: after a failed or killed export there
    is no file of this name, or still the earlier one.

    Raises UsageError if the target exists already, cannot be written or needs a missing program; FormatError
    for an image that the form cannot hold; and the errors of reading the image.
    """
    count = 0

    def advance(more: int) -> None:
        nonlocal count
        count += more
        options.advance(more)

    architecture = parse_platform(options.machine).architecture
    written: WrittenImage | None = None
    if target.form == "oci":
        written = write_oci(image, LayoutDirectory(target.path), architecture, advance)
    elif target.path == STDOUT:
        try:
            _write_tar(image, 1, advance)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"the standard output: {error.strerror}") from None
    else:
        mode = 0o755 if target.form == "sif" else 0o644
        with output_file(target.path, replace=options.replace, mode=mode) as file:
            if target.form == "tar":
                _write_tar(image, file.fileno(), advance)
            elif target.form == "sif":
                room = os.path.dirname(target.path) or "."
                write_sif(image, file, room, architecture, advance, options.warn)
            elif target.form == "oci-archive":
                written = write_oci(image, LayoutArchive(ArchiveWriter(file)), architecture, advance)
            else:
                written = write_docker(image, ArchiveWriter(file), architecture, advance)
    return ExportReport(count, written)


def _write_tar(image: ExportedImage, descriptor: int, advance: Advance) -> None:
    for part in tree_tar(image, image.tree(), advance):
        write_all(descriptor, part)
