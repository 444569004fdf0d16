"""`lazyfs repo keep` and `lazyfs repo release`: names that keep revisions from collection."""

from datetime import UTC, datetime

import click

from lazyfs.cli.say import say
from lazyfs.cli.store_options import keys_option
from lazyfs.repository import history
from lazyfs.repository.opened_repository import open_repository


@click.command()
@click.argument("name")
@click.argument("store")
@click.option("--revision", metavar="N|DATE|NAME", help="The revision to keep [default: the newest].")
@keys_option
def keep(name: str, store: str, revision: str | None, keys: str | None) -> None:
    """Keep a revision of STORE under NAME until it is released, however old it gets.

    Workers mount it with `lazyfs mount --revision NAME`. If NAME names another revision, it moves to this
    one.

    \b
    Example:
      lazyfs repo keep run3-2026 /srv/unpacked
    """
    repository = open_repository(store, keys)
    past = history.keep(repository.store, repository.keys, name, revision, lambda: datetime.now(UTC))
    say(f"{repository.name} revision {past.number} is kept as {name}")


@click.command()
@click.argument("name")
@click.argument("store")
@keys_option
def release(name: str, store: str, keys: str | None) -> None:
    """Give up the NAME of a revision of STORE: `lazyfs gc` may then collect the revision like any other.

    \b
    Example:
      lazyfs repo release run3-2026 /srv/unpacked
    """
    repository = open_repository(store, keys)
    history.release(repository.store, repository.keys, name, lambda: datetime.now(UTC))
    say(f"{repository.name}: no revision is kept as {name} any more")
