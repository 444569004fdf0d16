"""`lazyfs mirror`: a copy of a repository in another store."""

import click
import msgspec

from lazyfs.cli.progress import Counter
from lazyfs.cli.readable_store import open_readable
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option
from lazyfs.core.byte_size import parse_size, shown_size
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

    Exits 0, or 1 if something could not be deleted.

    \b
    Examples:
      lazyfs mirror https://origin.example/unpacked /srv/mirror
      lazyfs mirror /srv/unpacked s3://unpacked/mirror --limit 50M
    """
    rate = parse_size(limit, "--limit") if limit else None
    if rate == 0:
        raise click.UsageError("--limit 0 would copy nothing: leave it out for no limit")
    with open_readable(source) as opened, Counter(enabled=not as_json) as counter:
        report = Mirror(
            opened,
            create_store(target),
            bytes_per_second=rate,
            workers=workers,
            advance=lambda so_far: counter.show(f"{so_far.objects} objects, {shown_size(so_far.bytes)}"),
        ).run()
    if as_json:
        say_json(msgspec.to_builtins(report))
    else:
        for problem in report.problems:
            say(f"lazyfs: {problem}", err=True)
        news = f"{report.objects} objects, {report.bytes} bytes copied" if report.changed else "up to date"
        say(f"revision {report.revision}: {news}, {report.deleted} objects deleted")
    return 1 if report.problems else 0
