"""Makes profiles from lists of paths, and lists of paths from profiles."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.path_lists import PREFIX, parse_list
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles, touched_by
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.images.profiles.traces import Trace
from lazyfs.repository.stored_tree import StoredTree

MOST_BYTES = 16 << 20
"""The largest number of bytes of one list."""


class ListedFiles(NamedTuple):
    """The files of an image that lists of paths name."""

    touched: Trace
    paths: int
    """Number of the listed paths that the image has."""
    missing: list[bytes]
    """The listed paths that the image does not have."""


def read_list(path: str, directory: str) -> list[bytes]:
    """Reads a list of paths. `directory`: the directory inside the image from which relative paths in the
    list start. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise UsageError(f"{path}: over {MOST_BYTES} bytes, which no list of paths has")
    try:
        return parse_list(text, directory.encode(errors="surrogateescape"))
    except FormatError as error:
        raise UsageError(f"{path}: {error}") from None


def lists_inside(tree: StoredTree, image: str) -> list[bytes]:
    """Reads all CVMFS file bundles inside an image: lists of the paths that are needed when a certain file is
    opened, each beside its file (`core.path_lists`). Returns the listed paths, and the path of the file to
    which each bundle belongs. Raises UsageError for a bundle that cannot be read."""
    _, top = profiled_tree(tree, image)
    files = ImageFiles(tree, top)
    paths: list[bytes] = []
    for file in files.walk():
        directory, _, name = file.path.rpartition(b"/")
        if not file.entry.is_file or not name.startswith(PREFIX):
            continue
        shown = file.path.decode(errors="replace")
        if file.entry.size > MOST_BYTES:
            raise UsageError(f"{image}: /{shown}: over {MOST_BYTES} bytes, which no list of paths has")
        try:
            listed = parse_list(files.bytes_at(file, 0, file.entry.size), directory)
        except FormatError as error:
            raise UsageError(f"{image}: /{shown}: {error}") from None
        paths += [directory + b"/" + name.removeprefix(PREFIX), *listed]
    return paths


def find_listed(tree: StoredTree, image: str, paths: Iterable[bytes]) -> ListedFiles:
    """Finds the files of an image at these paths. Each path is looked for from the image's root first; if it
    is not there and begins with the image's own path in the repository, from the repository's root. Raises
    UsageError if the image's name leads to no tree, or to one that cannot have a profile."""
    found, top = profiled_tree(tree, image)
    files = ImageFiles(tree, top)
    above = [place.strip("/").encode(errors="surrogateescape") + b"/" for place in (image, found.path)]
    touched: Trace = {}
    count, missing = 0, []
    for path in paths:
        file = _find(files, path.lstrip(b"/"), above)
        if file is None:
            missing.append(path)
            continue
        count += 1
        touched.update(dict.fromkeys(touched_by(files, file)))
    return ListedFiles(touched, count, missing)


def _find(files: ImageFiles, path: bytes, above: list[bytes]) -> ImageFile | None:
    """Returns the file at a path from the image's root, or else from the repository's root; None if there is
    none. `above`: the paths of the image in the repository."""
    for prefix in (b"", *above):
        file = files.find(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if file is not None:
            return file
    return None


def paths_of(files: ImageFiles, digests: Iterable[Digest]) -> Iterator[bytes]:
    """Yields the paths of the files that lie in these objects, in the objects' order, each once."""
    wanted = dict.fromkeys(digests)
    holding: dict[Digest, list[bytes]] = {}
    for file in files.walk():
        if file.entry.is_dir:
            continue
        for part in files.parts(file):
            if part.ref.digest in wanted:
                holding.setdefault(part.ref.digest, []).append(file.path)
    given: set[bytes] = set()
    for digest in wanted:
        for path in holding.get(digest, ()):
            if path not in given:
                given.add(path)
                yield path
