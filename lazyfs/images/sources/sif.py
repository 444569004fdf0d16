"""SIF files of Apptainer and Singularity: one squashfs becomes the only layer of an image.

The layer's diff_id is the digest of the squashfs, since it has no tar archive of its own. The config is the
OCI config that the file has if it was exported by lazyfs, or a new one that names the run script. The
definition and the labels are kept: the labels in the config, the definition as an annotation of the manifest.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import BadData, FormatError, UsageError
from lazyfs.core.oci.manifest import MAX_CONFIG, Platform, parse_config
from lazyfs.core.oci.remarks import check_platform, remarks
from lazyfs.core.sif.choice import left_out, system_partition
from lazyfs.core.sif.documents import DEFINITION, LABELS, image_config, image_manifest
from lazyfs.core.sif.layout import HEADER, DataType, Descriptor, parse_header, parse_table
from lazyfs.images.inputs import Input, open_input, temporary_input
from lazyfs.images.layer_reader import Blob, LayerLimits
from lazyfs.images.sources.image import Layer
from lazyfs.images.squashfs import tar_of
from lazyfs.images.streams import Hashed

_NAMED_BY_KIND: dict[int, str] = {DataType.DEFINITION: DEFINITION, DataType.LABELS: LABELS}


class SifFile:
    """The image of a SIF file. Implements `Image`."""

    def __init__(self, file: str, platform: Platform, *, asked: bool = True) -> None:
        """`file` may be `-`, the standard input. `asked`: True if the operator named the platform. Raises
        UsageError, FormatError."""
        self.name = f"sif:{file}"
        self.place: str | None = None
        try:
            with closing(open_input(file, self.name)) as stream:
                stream.make_seekable()
                self._open(stream, platform)
        except (BadData, UsageError) as error:
            if str(error).startswith("sif:"):
                raise
            raise type(error)(f"{self.name}: {error}") from None
        try:
            self.notes = (
                *self._left_out,
                *check_platform(self.config, platform, asked=asked, listed=False, name=self.name),
                *remarks(self.config),
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the temporary copy of the squashfs."""
        self._filesystem.close()

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        for number in wanted:
            yield number, tar_of(self._filesystem, LayerLimits())

    def _open(self, stream: Input, platform: Platform) -> None:
        size = stream.size or 0
        header = parse_header(b"".join(stream.slice(0, min(size, HEADER.size))), size)
        table = parse_table(b"".join(stream.slice(header.table_offset, header.table_size)), size)
        chosen = system_partition(table, platform)
        assert chosen.partition is not None
        self._left_out = left_out(table, chosen)
        documents = _documents(stream, table)
        copied = Hashed(stream.slice(chosen.offset, chosen.size))
        # A file of its own, because sqfs2tar begins at a file's first byte, and root gives it to nobody.
        self._filesystem = temporary_input(copied, self.name)
        try:
            self._describe(copied.digest, chosen, header.created, documents)
        except BaseException:
            self.close()
            raise

    def _describe(
        self, digest: Digest, chosen: Descriptor, created: int, documents: dict[str, bytes]
    ) -> None:
        assert chosen.partition is not None
        architecture = chosen.partition.architecture
        self.config_bytes = image_config(digest, architecture, _timestamp(created), documents, self.name)
        self.config_digest = sha256(self.config_bytes)
        self.config = parse_config(self.config_bytes, self.name, 1)
        definition = documents.get(DEFINITION, b"")
        self.manifest = image_manifest(self.config_bytes, digest, chosen.size, definition)
        blob = Blob(f"{self.name}: squashfs", chosen.size, streamed=True, whiteouts=False)
        self.layers: tuple[Layer, ...] = (Layer(blob, digest),)


def _documents(stream: Input, table: Sequence[Descriptor]) -> dict[str, bytes]:
    """Returns the file's texts: definition and labels by their kind, JSON documents by their own names. Of
    several with a name, the first one counts."""
    found: dict[str, bytes] = {}
    for one in table:
        name = _NAMED_BY_KIND.get(one.kind) or (one.name if one.kind == DataType.JSON else "")
        if name and name not in found:
            if one.size > MAX_CONFIG:
                raise FormatError(f"SIF object {one.number} ({name}) of {one.size} bytes, over {MAX_CONFIG}")
            found[name] = b"".join(stream.slice(one.offset, one.size))
    return found


def _timestamp(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "1970-01-01T00:00:00Z"
