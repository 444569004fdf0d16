"""The form of an export that Apptainer and Singularity run: a SIF file, made from the merged tree.

Equal images give equal bytes: the file's id is made from its content, its time is the image's, and nothing in
it depends on the machine. squashfs keeps times in whole seconds from 1970 to 2106, and only extended
attributes whose names begin with `user.`, `trusted.` or `security.`.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from lazyfs.core.digest import sha256
from lazyfs.core.errors import FormatError
from lazyfs.core.layers.record import Record
from lazyfs.core.layers.tar_writer import is_file
from lazyfs.core.oci.manifest import Config, parse_config
from lazyfs.core.oci.platform import normalized
from lazyfs.core.sif.documents import CONFIG_NAME, kept_definition
from lazyfs.core.sif.layout import (
    ALIGNMENT,
    HEAD,
    DataType,
    NewObject,
    encode_head,
    identity,
    partition_extra,
)
from lazyfs.images.exports.image import ExportedImage
from lazyfs.images.exports.tar_stream import Advance, tree_tar
from lazyfs.images.squashfs import write_squashfs
from lazyfs.images.streams import Hashed, parts_of
from lazyfs.system.durable_file import write_all

_DEFINITION = b".singularity.d/Singularity"
"""The file in which builds of Apptainer keep the definition."""
_MOST_DEFINITION = 1 << 20
_SECOND = 1_000_000_000
_LATEST = (1 << 32) - 1
_KEPT = (b"user.", b"trusted.", b"security.")
_MAJOR, _MINOR = (1 << 12) - 1, (1 << 20) - 1


def write_sif(
    image: ExportedImage,
    file: BinaryIO,
    room: str,
    architecture: str,
    advance: Advance,
    warn: Callable[[str], None],
) -> None:
    """Writes an image as a SIF file. `file`: an empty unbuffered file. `room`: a directory with room for a
    temporary file of about the same size. `architecture`: that of an image without a config.

    Raises FormatError for a tree that no archive can hold or an architecture that SIF does not know,
    LazyfsError if the squashfs cannot be made, and as `ExportedImage.content`.
    """
    config = parse_config(image.config, image.name) if image.config is not None else Config()
    platform = normalized(config.platform)
    architecture = platform.architecture or architecture
    partition_extra(architecture)  # refused before the work
    tree = _SquashableTree(image)
    with tempfile.NamedTemporaryFile(dir=room, prefix=".squashfs.", buffering=0) as squashfs:
        write_squashfs(tree_tar(image, tree.records(), advance), squashfs.name)
        for message in tree.changes():
            warn(f"{image.name}: {message}")
        with open(squashfs.name, "rb", buffering=0) as filesystem:
            definition = kept_definition(image.manifest or b"") or tree.definition
            _write(file, filesystem, (definition, image.config or b""), architecture, config.created_ns)


def _write(
    file: BinaryIO, filesystem: BinaryIO, texts: tuple[bytes, bytes], architecture: str, created: int
) -> None:
    """Writes the file. `texts`: its definition and config, empty for none. `created`: the image's time, in
    nanoseconds since 1970."""
    objects, offset = [], HEAD
    kinds = ((DataType.DEFINITION, ""), (DataType.JSON, CONFIG_NAME))
    for (kind, name), text in zip(kinds, texts, strict=True):
        if text:
            objects.append(NewObject(kind, name, offset, len(text)))
            offset += len(text)
    start = -(-offset // ALIGNMENT) * ALIGNMENT
    descriptor = file.fileno()
    os.lseek(descriptor, HEAD, os.SEEK_SET)
    write_all(descriptor, b"".join(texts).ljust(start - HEAD, b"\0"))
    copied = Hashed(parts_of(filesystem))
    for part in copied:
        write_all(descriptor, part)
    extra = partition_extra(architecture)
    objects.append(NewObject(DataType.PARTITION, "", start, copied.size, extra))
    own = identity([copied.digest, *map(sha256, texts)])
    seconds = min(max(created // _SECOND, 0), _LATEST)
    os.lseek(descriptor, 0, os.SEEK_SET)
    write_all(descriptor, encode_head(objects, architecture, own, seconds, start + copied.size))


class _SquashableTree:
    """The records of a tree as squashfs can hold them."""

    def __init__(self, image: ExportedImage) -> None:
        self._image = image
        self._times = 0
        self._attributes = 0
        self.definition = b""
        """The definition file found in the tree; complete once all records have been yielded."""

    def records(self) -> Iterator[Record]:
        """Yields the records. Raises FormatError for a device whose number is too large."""
        for record in self._image.tree():
            if record.path == _DEFINITION and is_file(record) and record.size <= _MOST_DEFINITION:
                self.definition = b"".join(self._image.content(record))
            yield self._squashable(record)

    def changes(self) -> Iterator[str]:
        """Yields a message for each kind of value that was changed."""
        if self._times:
            yield f"{self._times} times before 1970 or after 2106 are changed, which squashfs cannot hold"
        if self._attributes:
            yield f"{self._attributes} extended attributes are left out, which squashfs cannot hold"

    def _squashable(self, record: Record) -> Record:
        seconds = min(max(record.mtime // _SECOND, 0), _LATEST)
        kept = tuple(pair for pair in record.xattrs if pair[0].startswith(_KEPT))
        device = stat.S_ISCHR(record.mode) or stat.S_ISBLK(record.mode)
        if device and (record.detail >> 32 > _MAJOR or record.detail & 0xFFFF_FFFF > _MINOR):
            raise FormatError(
                f"{self._image.name}: {record.path!r}: squashfs has no device "
                f"{record.detail >> 32}:{record.detail & 0xFFFF_FFFF}"
            )
        self._times += seconds != record.mtime // _SECOND
        self._attributes += len(record.xattrs) - len(kept)
        return msgspec.structs.replace(record, mtime=seconds * _SECOND, xattrs=kept)
