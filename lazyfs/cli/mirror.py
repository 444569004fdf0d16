"""`lazyfs mirror`: a copy of a repository in another store."""

import click

from lazyfs.cli.copying import copy_rate, refuse_partial, say_copied, show_copied
from lazyfs.cli.progress import Counter
from lazyfs.cli.readable_store import open_readable
from lazyfs.cli.store_options import json_option
from lazyfs.repository.mirror import WORKERS, Mirror
from lazyfs.store import create_store


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--limit", metavar="SIZE", help="Most bytes a second on average, like 20M.")
@click.option("--workers", default=WORKERS, show_default=True, type=click.IntRange(1, 64), help="Threads.")
@json_option
def command(source: str, target: str, limit: str | None, workers: int, as_json: bool) -> int:
    """Copy the repository at FROM, a store or its URL, into the store TO, or bring a copy up to date.

    Run it from cron: a run costs what changed, and one that was killed goes on where it was. All is verified,
    and the copy shows a revision once all of it is there. Revisions stay in the copy as long as in the
    repository. The copy has the repository's signatures, so workers trust it as they do the origin.

    Exits 0; or 1 if something could not be deleted, or if a collected profile could not be copied.

    \b
    Examples:
      lazyfs mirror https://origin.example/unpacked /srv/mirror
      lazyfs mirror /srv/unpacked s3://unpacked/mirror --limit 50M
    """
    rate = copy_rate(limit)
    refuse_partial(target)
    with open_readable(source) as opened, Counter(enabled=not as_json) as counter:
        report = Mirror(
            opened,
            create_store(target),
            bytes_per_second=rate,
            workers=workers,
            advance=lambda so_far: show_copied(counter, so_far),
        ).run()
    return say_copied(report, as_json=as_json)
