"""`lazyfs rollback`: shows the content of an older revision again."""

from datetime import UTC, datetime

import click

from lazyfs.cli.history_text import change_lines, changes_shown
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.repository.opened_repository import open_repository
from lazyfs.repository.rollback import roll_back


@click.command()
@click.argument("store")
@click.option("--to", "wanted", required=True, metavar="N|DATE|NAME", help="The revision to go back to.")
@keys_option
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@json_option
def command(store: str, wanted: str, keys: str | None, dry_run: bool, as_json: bool) -> None:
    """Show the content of an older revision of STORE again, as a new revision.

    The new revision has a higher number, so workers follow it like any other. `lazyfs log` shows which
    revisions there are; those that `lazyfs gc` has collected cannot come back.

    \b
    Examples:
      lazyfs rollback /srv/unpacked --to 41 --dry-run
      lazyfs rollback /srv/unpacked --to 2026-05-01
    """
    repository = open_repository(store, keys)
    done = roll_back(repository.store, repository.keys, wanted, lambda: datetime.now(UTC), dry_run=dry_run)
    if as_json:
        say_json(
            {
                "repository": repository.name,
                "revision": done.revision.number,
                "restored": done.restored,
                "dry_run": dry_run,
                "changes": changes_shown(done.changes),
            }
        )
        return
    say(*change_lines(done.changes))
    if not done.changes:
        say(f"{repository.name} revision {done.revision.number}: shows what revision {done.restored} shows")
    elif dry_run:
        say(f"{repository.name} revision {done.revision.number}: would show revision {done.restored} again")
    else:
        say(f"{repository.name} revision {done.revision.number}: shows revision {done.restored} again")
