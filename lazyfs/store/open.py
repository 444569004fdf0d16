"""Opens a store at a location as operators write it: a directory's path, or s3://BUCKET/PREFIX.

*Web files* are files that a store's web server serves from a folder beside data/ and metadata/, such as
status pages.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.shown_address import shown_address
from lazyfs.store.directory import DirectoryStore
from lazyfs.store.protocol import Store
from lazyfs.store.web_files import DirectoryFiles, WebFiles


class StoreKind(NamedTuple):
    """One implementation of Store."""

    notation: str
    """The locations of such stores, as messages describe them."""
    exists: Callable[[str], bool]
    """Returns True if a store of this kind may be at the location: always for a bucket, which is not
    asked."""
    open: Callable[[str], Store]
    create: Callable[[str], Store]
    """Makes the missing parts of a store at the location, and opens it."""
    web_files: Callable[[str, str], WebFiles]
    """Takes the location of a store and the name of a folder beside it; returns the web files in it."""


@contextmanager
def _obstore_needed(location: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise UsageError(
            f"store {location}: the Python package obstore is not installed: pip install 'lazyfs[s3]'"
        ) from None


def _bucket(location: str) -> Store:
    with _obstore_needed(location):
        from lazyfs.store.s3 import open_bucket  # takes 40 ms, which other stores need not wait for

        return open_bucket(location)


def _bucket_files(location: str, folder: str) -> WebFiles:
    with _obstore_needed(location):
        from lazyfs.store.s3 import open_bucket_files

        return open_bucket_files(location, folder)


_KINDS = {
    "": StoreKind(
        "a directory, which a web server serves",
        os.path.isdir,
        DirectoryStore,
        DirectoryStore.create,
        lambda location, folder: DirectoryFiles(os.path.join(location, folder)),
    ),
    "s3": StoreKind("s3://BUCKET/PREFIX", lambda _location: True, _bucket, _bucket, _bucket_files),
}
"""Maps a scheme to the kind of store whose locations begin with `scheme://`, and the empty text to the kind
whose locations are plain paths."""


def open_store(location: str) -> Store:
    """Returns the store at a location. Raises UsageError if there is none, or if the kind is unknown."""
    return _kind(location).open(location)


def find_store(location: str) -> Store | None:
    """Returns the store at a location, None if there is none. Raises UsageError if the kind is unknown."""
    kind = _kind(location)
    return kind.open(location) if kind.exists(location) else None


def create_store(location: str) -> Store:
    """Returns the store at a location, made if it is missing. Raises UsageError if the kind is unknown."""
    return _kind(location).create(location)


def open_web_files(location: str, folder: str) -> WebFiles:
    """Returns the web files in `folder`, a folder beside the store at a location. Raises UsageError if
    the kind is unknown."""
    return _kind(location).web_files(location, folder)


def _kind(location: str) -> StoreKind:
    scheme, separator, _ = location.partition("://")
    found = _KINDS.get(scheme if separator else "")
    if found is None:
        known = ", or ".join(kind.notation for kind in _KINDS.values())
        raise UsageError(f"store {shown_address(location)}: publishers write to {known}, not to {scheme}://")
    return found
