"""The files of an OCI image layout: in a directory, or in a tar archive of one."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from errno import ENOENT
from typing import Protocol

from lazyfs.core.errors import BadData, UsageError
from lazyfs.core.layers import tar
from lazyfs.images.inputs import open_file, open_input, temporary_input
from lazyfs.images.layer_reader import LayerLimits, expanded
from lazyfs.images.streams import ExactReader, is_compressed, parts_of


class LayoutFiles(Protocol):
    """The files of a layout, by their paths in it: `index.json`, `blobs/sha256/...`."""

    def size(self, path: str) -> int:
        """Returns the bytes of a file. Raises OSError if there is none."""
        ...

    def open(self, path: str, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Opens a file; the context's value is the file's bytes in parts. `name`: the file's name in errors.
        Raises UsageError if there is no such file."""
        ...

    def close(self) -> None:
        """Closes what was opened to find the files."""
        ...


class DirectoryFiles:
    """The files of a layout in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def size(self, path: str) -> int:
        return os.stat(os.path.join(self._directory, path)).st_size

    @contextmanager
    def open(self, path: str, name: str) -> Iterator[Iterator[bytes]]:
        with open_file(os.path.join(self._directory, path), name) as file:
            yield parts_of(file)

    def close(self) -> None:
        """Does nothing: no file stays open."""


class ArchiveFiles:
    """The files of a layout in a tar archive (`skopeo copy ... oci-archive:FILE`). The archive is read once
    for the places of its files; a compressed one is first decompressed into an unlinked temporary file."""

    def __init__(self, file: str, name: str) -> None:
        """`file` may be `-`, the standard input. Raises UsageError, BadData."""
        self._name = name
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._archive = open_input(file, name)
        try:
            self._archive.make_seekable()
            self._decompress()
            self._find()
        except BadData as error:
            self.close()
            raise type(error)(f"{name}: {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._archive.close()

    def size(self, path: str) -> int:
        found = self._place(path)
        if found is None:
            raise FileNotFoundError(ENOENT, "the archive has no such file", path)
        return found[1]

    @contextmanager
    def open(self, path: str, name: str) -> Iterator[Iterator[bytes]]:
        found = self._place(path)
        if found is None:
            raise UsageError(f"{name}: the archive has no {path}")
        yield self._archive.slice(*found)

    def _place(self, path: str) -> tuple[int, int] | None:
        return self._places.get(self._links.get(path, path))

    def _decompress(self) -> None:
        """Replaces a compressed archive by a plain copy."""
        size = self._archive.size or 0
        if is_compressed(b"".join(self._archive.slice(0, min(size, 8)))):
            with closing(self._archive) as packed:
                packed.rewind()
                plain = expanded(packed.parts(), LayerLimits(), lambda: size)
                self._archive = temporary_input(plain, self._name)

    def _find(self) -> None:
        """Notes where each file lies."""
        stream = _Counted(ExactReader(self._archive.slice(0, self._archive.size or 0)))
        reader = tar.TarReader(stream.read, need_end=True)
        while (member := reader.next()) is not None:
            path = posixpath.normpath(os.fsdecode(member.name)).lstrip("/")
            if member.kind == tar.FILE:
                self._places[path] = stream.count, member.size
            elif member.kind == tar.HARDLINK:
                self._links[path] = posixpath.normpath(os.fsdecode(member.target)).lstrip("/")


class _Counted:
    """Counts the bytes that are read."""

    def __init__(self, source: ExactReader) -> None:
        self._source = source
        self.count = 0

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self.count += len(data)
        return data
