"""`lazyfs preload`: copies a repository, or some of its images, into a directory for nodes without a
network."""

import os

import click
import msgspec

from lazyfs.cli.progress import Counter
from lazyfs.cli.readable_store import open_readable
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option
from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import UsageError
from lazyfs.repository.mirror import WORKERS
from lazyfs.repository.preload import Preload
from lazyfs.store import create_store

PARTIAL = ".partial"
"""The name of a marker file: the directory holds only some images, so an object that a catalog names may be
missing."""


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE...]")
@click.option(
    "--to", "target", required=True, metavar="DIR", help="The directory, on a disk that the nodes share."
)
@click.option("--from", "source", required=True, metavar="STORE|URL", help="The repository.")
@click.option("--limit", metavar="SIZE", help="Most bytes a second on average, like 20M.")
@json_option
def command(images: tuple[str, ...], target: str, source: str, limit: str | None, as_json: bool) -> int:
    """Copy a repository into DIR, or only IMAGEs and what leads to them, for nodes without outgoing network.

    Mount DIR as the store, or as `--lower` of one that is asked for the rest. Run it again for a new
    revision: only what is new is fetched, and one that was killed goes on where it was.

    \b
    Examples:
      lazyfs preload --from https://origin.example/unpacked --to /scratch/unpacked
      lazyfs preload --from /srv/unpacked --to /scratch/some library/alpine:3.10.2
    """
    if "://" in target:
        raise UsageError(f"--to {target}: give a directory; lazyfs mirror copies into buckets")
    rate = parse_size(limit, "--limit") if limit else None
    if rate == 0:
        raise click.UsageError("--limit 0 would copy nothing: leave it out for no limit")
    store = create_store(target)
    partial = os.path.join(target, PARTIAL)
    if not images and os.path.exists(partial):
        raise UsageError(f"--to {target} holds some images only: name images, or choose another directory")
    if images and not os.path.exists(partial) and store.read_metadata("timestamp.json") is not None:
        raise UsageError(f"--to {target} holds the whole repository: leave the images out")
    if images:
        with open(partial, "a", encoding="utf-8"):
            pass
    with open_readable(source) as opened, Counter(enabled=not as_json) as counter:
        mirror = Preload(
            opened,
            store,
            bytes_per_second=rate,
            workers=WORKERS,
            advance=lambda so_far: counter.show(f"{so_far.objects} objects, {shown_size(so_far.bytes)}"),
        )
        report = mirror.take(images) if images else mirror.run()
    if as_json:
        say_json(msgspec.to_builtins(report))
    else:
        for problem in report.problems:
            say(f"lazyfs: {problem}", err=True)
        news = f"{report.objects} objects, {report.bytes} bytes copied" if report.changed else "up to date"
        say(f"revision {report.revision}: {news}, {report.deleted} objects deleted")
    return 1 if report.problems else 0
