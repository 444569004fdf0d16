"""An image that is exported from its directory in a mount, through the node's cache."""

import os
from collections.abc import Iterator, Sequence

from lazyfs.core.digest import Digest
from lazyfs.core.errors import LazyfsError
from lazyfs.core.layers.record import Record
from lazyfs.core.oci.run_config import MAX_CONFIG
from lazyfs.core.profile import without_hint
from lazyfs.images.sources.trees import directory_records
from lazyfs.images.streams import parts_of


class DirectoryImage:
    """One image or tree of a mount. Implements `ExportedImage`. A mount shows merged trees, so there are no
    layers."""

    def __init__(self, root: str, metadata: str | None, place: str) -> None:
        """`root`: the directory of the tree. `metadata`: the directory of its manifest and config; None for a
        tree without them. `place`: the path in the repository of the image's link, or of the tree. Raises
        LazyfsError if they cannot be read."""
        self.name = self.place = place
        self._root = os.fsencode(root)
        self.config = _document(metadata, "config.json")
        self.manifest = _document(metadata, "manifest.json")
        self.size = 0
        self.layers: tuple[Digest, ...] | None = None

    def layer(self, diff_id: Digest) -> Sequence[Record]:
        raise AssertionError(f"a mount shows no layer {diff_id.hex()}")

    def tree(self) -> Iterator[Record]:
        try:
            for record in directory_records(self._root):
                if not record.path:
                    record.xattrs = without_hint(record.xattrs)
                yield record
        except OSError as error:
            raise self._failed(error, self._root) from None

    def content(self, record: Record) -> Iterator[bytes]:
        path = os.path.join(self._root, record.path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as file:
                yield from parts_of(file)
        except OSError as error:
            raise self._failed(error, path) from None

    def _failed(self, error: OSError, path: bytes) -> LazyfsError:
        shown = os.fsdecode(error.filename or path)
        return LazyfsError(f"{self.name}: {shown}: {error.strerror}")


def _document(metadata: str | None, name: str) -> bytes | None:
    if metadata is None:
        return None
    path = os.path.join(metadata, name)
    try:
        with open(path, "rb") as file:
            return file.read(MAX_CONFIG + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LazyfsError(f"{path}: {error.strerror}") from None
