"""Writes tar archives from records and the contents of files."""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError
from lazyfs.core.layers.record import Kind, Record
from lazyfs.core.layers.tar_writer import (
    DIALECTS,
    END,
    PLAIN,
    Dialect,
    hardlink_header,
    inode_header,
    is_file,
    padding,
    whiteout_header,
)
from lazyfs.images.exports.image import ExportedImage

Advance = Callable[[int], None]
"""A function that is called after each part of an archive, with the number of bytes of files' contents in it.
"""


def tree_tar(image: ExportedImage, records: Iterable[Record], advance: Advance) -> Iterator[bytes]:
    """Yields the archive of a tree, given by its records. Raises FormatError for what no archive can hold,
    and as `ExportedImage.content`."""
    return _tar(records, image, advance, lambda link: link, layer=False)


def merged_layer_tar(image: ExportedImage, advance: Advance) -> Iterator[bytes]:
    """Yields the merged tree as the archive of a layer. Raises FormatError also for a name that would hide
    another name in a layer."""
    return _tar(image.tree(), image, advance, lambda link: link, layer=True)


class OtherDialect(Exception):
    """Raised after writing a layer: in another `dialect`, the archive would have had the layer's diff_id. A
    dialect is the way in which one tool writes tar headers."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self.dialect = dialect


def kept_layer_tar(image: ExportedImage, number: int, dialect: Dialect, advance: Advance) -> Iterator[bytes]:
    """Yields the archive of a layer whose records the repository keeps. `number`: the layer's index in
    `image.layers`. Raises as `merged_layer_tar`; at the end raises OtherDialect if the archive would have had
    the layer's diff_id in another dialect."""
    layers = image.layers
    assert layers is not None
    records = image.layer(layers[number])
    targets = _LinkTargets(image, records, layers[:number])
    others = [_InDialect(other) for other in DIALECTS if other != dialect]
    yield from _tar(records, image, advance, targets.attributes, layer=True, dialect=dialect, others=others)
    for other in others:
        if other.differs and other.hash.digest() == layers[number]:
            raise OtherDialect(other.dialect)


class _InDialect:
    """Computes the hash that the archive would have if it were written in another dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.hash = hashlib.sha256()
        self.differs = False
        """True if a header differs in this dialect from the header that was written."""


def _tar(
    records: Iterable[Record],
    image: ExportedImage,
    advance: Advance,
    attributes: Callable[[Record], Record],
    *,
    layer: bool,
    dialect: Dialect = PLAIN,
    others: Sequence[_InDialect] = (),
) -> Iterator[bytes]:
    """Yields the archive of records. `attributes`: returns, for the record of a hardlink, a record with the
    mode, owner and time of its file. `layer`: True for the archive of a layer. `others`: each computes the
    hash of the same archive in another dialect."""

    def header(record: Record, in_dialect: Dialect) -> bytes:
        if record.kind == Kind.HARDLINK:
            first = attributes(record)
            return hardlink_header(record.path, record.content, first, layer=layer, dialect=in_dialect)
        if record.kind == Kind.INODE:
            return inode_header(record, layer=layer, dialect=in_dialect)
        return whiteout_header(record)

    for record in records:
        own = header(record, dialect)
        for other in others:
            theirs = header(record, other.dialect)
            other.differs |= theirs != own
            other.hash.update(theirs)
        yield own
        if is_file(record):
            for part in _file(image, record, advance):
                for other in others:
                    other.hash.update(part)
                yield part
    for other in others:
        other.hash.update(END)
    yield END


def _file(image: ExportedImage, record: Record, advance: Advance) -> Iterator[bytes]:
    size = 0
    for part in image.content(record):
        size += len(part)
        if size > record.size:
            break
        yield part
        advance(len(part))
    if size != record.size:
        raise FormatError(
            f"{image.name}: {record.path!r} has not the {record.size} bytes that its entry says"
        )
    yield padding(size)


class _LinkTargets:
    """Finds the files that a layer's hardlinks lead to: unpackers want a link's header to repeat the mode of
    its file, and a layer's records of links do not have it."""

    def __init__(self, image: ExportedImage, own: Sequence[Record], below: Sequence[Digest]) -> None:
        """`own`: the records of the layer. `below`: the diff_ids of the layers below it, lowest first."""
        self._image = image
        self._below = below
        self._files: dict[bytes, Record] = {}
        self._take(own)
        self._all = False

    def attributes(self, link: Record) -> Record:
        """Returns the record of the file that a hardlink leads to; a record with mode 0644 if no layer has a
        file at exactly that path, because the path leads through symbolic links."""
        found = self._files.get(link.content)
        if found is None and not self._all:
            self._all = True
            for diff_id in reversed(self._below):
                self._take(self._image.layer(diff_id))
            found = self._files.get(link.content)
        return found or _USUAL

    def _take(self, records: Sequence[Record]) -> None:
        """Notes the files of a layer. A file that was already noted for a higher layer at the same path
        stays."""
        files: dict[bytes, Record] = {}
        for record in records:
            if record.kind == Kind.INODE and not stat.S_ISDIR(record.mode):
                files[record.path] = record
            elif record.kind == Kind.HARDLINK:
                first = files.get(record.content)
                if first is not None:
                    files[record.path] = first
        self._files = files | self._files


_USUAL = Record(Kind.INODE, b"", mode=stat.S_IFREG | 0o644)
