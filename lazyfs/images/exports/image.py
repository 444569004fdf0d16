"""The interface by which all forms of an export read an image, whether from a repository or from a mount."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from lazyfs.core.digest import Digest
from lazyfs.core.layers.record import Record


class ExportedImage(Protocol):
    """A published image or tree that is read to be exported."""

    name: str
    """The name in messages."""
    place: str
    """The path in the repository of the image's link, or of the tree."""
    config: bytes | None
    """The image's config; None for a tree that was published without one."""
    manifest: bytes | None
    size: int
    """Bytes of the tree's files; 0 if the number is not known before the files are read."""
    layers: tuple[Digest, ...] | None
    """The diff_ids of its layers, lowest first, if the repository has the records of all; None otherwise."""

    def layer(self, diff_id: Digest) -> Sequence[Record]:
        """Returns the records of a layer, in the order of its archive."""
        ...

    def tree(self) -> Iterator[Record]:
        """Yields the merged tree as a mount shows it: the root first, a directory before what is in it, names
        in order. The second and later names of a file are hardlinks to its first one, with the attributes of
        the file."""
        ...

    def content(self, record: Record) -> Iterator[bytes]:
        """Yields the bytes of a file of the tree or of a layer, verified. Raises BadData, NotFound,
        LazyfsError."""
        ...
