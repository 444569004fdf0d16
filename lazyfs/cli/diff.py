"""`lazyfs diff`: the differences between two images or two revisions."""

import os

import click

from lazyfs.cli.say import say, say_json
from lazyfs.core.params import Revision
from lazyfs.repository.commit import read_revision
from lazyfs.repository.diff import ResolvedPath, diff, resolve
from lazyfs.repository.history import find_revision
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, open_store, reader

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("old")
@click.argument("new")
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(old: str, new: str, store: str, as_json: bool) -> int:
    """List the paths that differ between OLD and NEW, two images or revisions of STORE.

    OLD and NEW are images' names or paths of the tree, revisions as @N (or @DATE, @NAME), or paths in a
    revision as @N/PATH. Exits 0 if nothing differs, 1 otherwise.

    \b
    Examples:
      lazyfs diff registry.example/app:1 registry.example/app:2 /srv/unpacked
      lazyfs diff @41 @42 /srv/unpacked
      lazyfs diff @41/registry.example/app:1 registry.example/app:1 /srv/unpacked
    """
    opened = open_store(store)
    differs = False
    for found in diff(_resolved(opened, old), _resolved(opened, new)):
        differs = True
        path = os.fsdecode(found.path)
        if as_json:
            answer: dict[str, object] = {"change": found.kind, "path": path, "fields": found.fields}
            if found.same_below is not None:
                answer["same_below"] = os.fsdecode(found.same_below)
            say_json(answer)
        elif found.same_below is not None:
            say(f"{_SIGNS[found.kind]} {path}/  (as below {os.fsdecode(found.same_below) or '.'}/)")
        else:
            fields = f"  ({', '.join(found.fields)})" if found.fields else ""
            say(f"{_SIGNS[found.kind]} {path}{fields}")
    return int(differs)


def _resolved(store: Store, text: str) -> ResolvedPath:
    if not text.startswith("@"):
        tree = _tree(store, read_revision(store))
        return resolve(tree, find_place(tree, text))
    number, _, path = text[1:].partition("/")
    tree = _tree(store, find_revision(store, number))
    return resolve(tree, find_place(tree, path))


def _tree(store: Store, revision: Revision) -> StoredTree:
    return StoredTree(reader(store), revision.root)
