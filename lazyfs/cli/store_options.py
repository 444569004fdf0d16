"""Options and steps that are common to the commands that sign revisions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from lazyfs.repository.commit import read_revision
from lazyfs.repository.keys import Keys, default_directory, load
from lazyfs.store import Store, open_store

keys_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--keys", metavar="DIR", help="Directory of the private keys [default: ~/.config/lazyfs/keys/NAME]."
)
json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object."
)


class OpenedRepository(NamedTuple):
    """A store with a repository in it, and the keys that sign for the repository."""

    store: Store
    name: str
    keys_directory: str
    keys: Keys


def open_repository(location: str, keys_directory: str | None) -> OpenedRepository:
    """Opens the store and loads the keys, from `keys_directory` or from the default directory for the
    repository's name.

    Raises UsageError for a store without a repository, and for keys that are missing or that others can read.
    """
    store = open_store(location)
    name = read_revision(store).name
    directory = keys_directory or default_directory(name)
    return OpenedRepository(store, name, directory, load(directory))
