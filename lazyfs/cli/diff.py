"""`lazyfs diff`: what differs between two images or two revisions."""

import click
import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.repository import commit as commits
from lazyfs.repository.diff import Side, diff, resolve
from lazyfs.repository.history import find_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.directory import DirectoryStore

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("old")
@click.argument("new")
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(old: str, new: str, store: str, as_json: bool) -> int:
    """List the paths that differ between OLD and NEW, two images or revisions of STORE.

    OLD and NEW are paths of the tree (an image's name is followed to its content), revisions as @N, or paths
    in a revision as @N/PATH. Exits 0 if nothing differs, 1 otherwise.

    \b
    Examples:
      lazyfs diff registry.example/app:1 registry.example/app:2 /srv/unpacked
      lazyfs diff @41 @42 /srv/unpacked
      lazyfs diff @41/registry.example/app:1 registry.example/app:1 /srv/unpacked
    """
    opened = DirectoryStore(store)
    differs = False
    for change in diff(_side(opened, old), _side(opened, new)):
        differs = True
        path = change.path.decode(errors="backslashreplace")
        if as_json:
            answer = {"change": change.kind, "path": path, "fields": change.fields}
            click.echo(msgspec.json.encode(answer))
        else:
            fields = f"  ({', '.join(change.fields)})" if change.fields else ""
            click.echo(f"{_SIGNS[change.kind]} {path}{fields}")
    return int(differs)


def _side(store: DirectoryStore, text: str) -> Side:
    if not text.startswith("@"):
        return resolve(_tree(store, commits.current(store)), text)
    number, _, path = text[1:].partition("/")
    if not number.isdigit():
        raise UsageError(f"{text}: a revision is @ and a number")
    return resolve(_tree(store, find_revision(store, int(number))), path)


def _tree(store: DirectoryStore, revision: Revision) -> StoredTree:
    return StoredTree(store, revision.root)
