"""Finds the objects of a new image that correspond to objects which starts of an older image touched. Pure.

A touched object stands for the parts of files that lie in it. Each of these files is looked for in the new
image, at the first of these paths that fits: the same path; the path that has the same content now; the one
path that differs from the old one in version numbers only (`libfoo.so.1.2`, `foo-1.2.dist-info`). Files that
are not found are left out.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lazyfs.core.digest import Digest, ObjectRef

_NUMBERS = re.compile(rb"[0-9a-f]{8,}|[0-9]+(?:\.[0-9]+)*")
"""Versions, and digests in names, as in `libopenblas-0cf96a72.so`."""


class Part(NamedTuple):
    """Bytes of a file that lie in one object. A small file in a pack counts as an object of its own."""

    ref: ObjectRef
    length: int


class FileInImage(NamedTuple):
    """A file of an image."""

    path: bytes
    content: bytes
    """The identity of the file's bytes."""
    parts: tuple[Part, ...]
    """The file's bytes, in order; an empty file has no parts."""

    @property
    def size(self) -> int:
        return sum(part.length for part in self.parts)


class ImageContent(NamedTuple):
    """The files of an image, and the directories that are catalogs of their own."""

    files: list[FileInImage]
    catalogs: dict[bytes, ObjectRef]
    """Maps the path of a directory to its catalog."""


class _Use(NamedTuple):
    """The range of a file's bytes that one object holds."""

    file: FileInImage
    start: int
    end: int


def inherited(touched: Iterable[Digest], old: ImageContent, new: ImageContent) -> list[Digest]:
    """Returns the objects of the new image that correspond to touched objects of the old image, in the order
    of the touched ones."""
    order = list(dict.fromkeys(touched))
    uses = _uses(set(order), old.files)
    places = {ref.digest: path for path, ref in old.catalogs.items()}
    successors = _Successors(old, new)
    found: dict[Digest, None] = {}
    for digest in order:
        catalog = new.catalogs.get(places[digest]) if digest in places else None
        if catalog is not None:
            found.setdefault(catalog.digest)
        for use in uses.get(digest, ()):
            successor = successors.of(use.file)
            for part in _parts_at(successor, use) if successor else ():
                found.setdefault(part.ref.digest)
    return list(found)


class _Successors:
    """Finds files of the old image in the new one."""

    def __init__(self, old: ImageContent, new: ImageContent) -> None:
        self._paths = {file.path: file for file in new.files}
        self._contents: dict[bytes, FileInImage] = {}
        for file in new.files:
            self._contents.setdefault(file.content, file)
        before = {file.path for file in old.files}
        self._numberless: dict[bytes, FileInImage | None] = {}
        for file in new.files:
            if file.path not in before:
                key = _without_numbers(file.path)
                self._numberless[key] = None if key in self._numberless else file

    def of(self, file: FileInImage) -> FileInImage | None:
        return (
            self._paths.get(file.path)
            or self._contents.get(file.content)
            or self._numberless.get(_without_numbers(file.path))
        )


def _without_numbers(path: bytes) -> bytes:
    return _NUMBERS.sub(b"#", path)


def _uses(wanted: set[Digest], files: Iterable[FileInImage]) -> dict[Digest, list[_Use]]:
    found: dict[Digest, list[_Use]] = {}
    for file in files:
        start = 0
        for part in file.parts:
            if part.ref.digest in wanted:
                found.setdefault(part.ref.digest, []).append(_Use(file, start, start + part.length))
            start += part.length
    return found


def _parts_at(file: FileInImage, use: _Use) -> Iterator[Part]:
    """Yields the parts of the new `file` that lie in the range `use` of the old one. The end of the new file
    corresponds to the end of the old one."""
    start = min(use.start, max(file.size - 1, 0))
    end = file.size if use.end == use.file.size else use.end
    at = 0
    for part in file.parts:
        if min(end, at + part.length) > max(start, at):
            yield part
        at += part.length
