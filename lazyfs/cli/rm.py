"""`lazyfs rm`: removes images from a repository's tree."""

from datetime import UTC, datetime

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.core.errors import UsageError
from lazyfs.core.tree_paths import INTERNAL
from lazyfs.repository.commit import read_revision
from lazyfs.repository.edit import Edit
from lazyfs.repository.image_place import find_place
from lazyfs.repository.live_tree import LiveTree
from lazyfs.repository.opened_repository import open_repository
from lazyfs.repository.removal import remove_images, remove_untagged
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader


@click.command()
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.argument("store")
@keys_option
@click.option("--untagged", is_flag=True, help="Also remove the images that no name leads to any more.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@json_option
def command(
    images: tuple[str, ...], store: str, keys: str | None, untagged: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove IMAGE..., or published trees, from the repository in STORE.

    A new revision without them is made at once. An image's files are removed together with its last name, a
    layer together with the last image that has it. Their bytes stay for as long as an older revision that has
    them is kept: meanwhile `lazyfs rollback` brings them back, and afterwards `lazyfs gc` deletes them.

    \b
    Examples:
      lazyfs rm registry.example/app:1 registry.example/app:2 /srv/unpacked
      lazyfs rm --untagged --dry-run /srv/unpacked
    """
    if not images and not untagged:
        raise UsageError("no image given: write lazyfs rm IMAGE... STORE, or --untagged")
    gone: list[str] = []

    def change(tree: LiveTree) -> None:
        gone[:] = remove_images(tree, places)
        if untagged:
            gone.extend(remove_untagged(tree))

    if dry_run:
        opened = open_store(store)
        revision = read_revision(opened)
        live = LiveTree(StoredTree(reader(opened), revision.root), revision.params)
        places = [_place(StoredTree(reader(opened), revision.root), live, image) for image in images]
        change(live)
    else:
        repository = open_repository(store, keys)
        with Edit(repository.store, repository.keys, lambda: datetime.now(UTC)) as edit:
            live = LiveTree(edit.tree, edit.base.params)
            places = [_place(edit.tree, live, image) for image in images]
            edit.apply(change)
            revision = edit.commit().revision
    if as_json:
        say_json(
            {
                "repository": revision.name,
                "revision": revision.number,
                "dry_run": dry_run,
                "images": [path for path in gone if not _internal(path)],
                "parts": [path for path in gone if _internal(path)],
            }
        )
        return
    say(*(f"- {path}" for path in gone))
    say(f"{revision.name} revision {revision.number}: {_summary(gone, dry_run)}")


def _place(tree: StoredTree, live: LiveTree, image: str) -> str:
    place = find_place(tree, image)
    if not place:
        raise UsageError(f"{image!r} is the whole tree: give images' names")
    if _internal(place):
        raise UsageError(f"{place} is a part of images: give the images' names, or --untagged")
    if live.get(place) is None:
        raise UsageError(f"{place} is a folder of images, or lies in one: give images' names")
    return place


def _internal(path: str) -> bool:
    return path.split("/")[0].encode(errors="surrogateescape") in INTERNAL


def _summary(gone: list[str], dry_run: bool) -> str:
    if not gone:
        return "nothing to remove"
    named = sum(not _internal(path) for path in gone)
    return f"{named} names and {len(gone) - named} parts of images {'would go' if dry_run else 'are gone'}"
