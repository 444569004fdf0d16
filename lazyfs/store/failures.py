"""Says in one line why a store directory cannot be read or written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs.store.protocol import StoreError


@contextmanager
def reported(path: str) -> Iterator[None]:
    """Turns an OSError in its block into a StoreError of one line about the store at `path`."""
    try:
        yield
    except OSError as error:
        text = f"store {path}: {error.strerror or error} ({error.filename or path})"
        if isinstance(error, PermissionError) and (owner := _owner(path)) != os.geteuid():
            text += f"; run this as the store's owner, uid {owner}, not as uid {os.geteuid()}"
        raise StoreError(text) from error


def _owner(path: str) -> int:
    """Returns the uid of the owner of `path`, or of the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.lstat(path).st_uid
