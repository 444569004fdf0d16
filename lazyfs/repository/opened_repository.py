"""A repository that is opened to sign a revision of it: its store and its keys."""

from typing import NamedTuple

from lazyfs.repository.commit import read_revision
from lazyfs.repository.keys import Keys, default_directory, load
from lazyfs.store import Store, open_store


class OpenedRepository(NamedTuple):
    """A store with a repository in it, and the keys that sign for the repository."""

    store: Store
    name: str
    keys_directory: str
    keys: Keys


def open_repository(location: str, keys_directory: str | None) -> OpenedRepository:
    """Opens the store and loads the keys, from `keys_directory` or from the default directory for the
    repository's name.

    Raises UsageError for a store without a repository, and for keys that are missing or that other users can
    read.
    """
    store = open_store(location)
    name = read_revision(store).name
    directory = keys_directory or default_directory(name)
    return OpenedRepository(store, name, directory, load(directory))
