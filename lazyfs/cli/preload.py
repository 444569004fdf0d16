"""`lazyfs preload`: copies a repository, or some of its images, into a directory for nodes without a
network."""

import os

import click

from lazyfs.cli.copying import PARTIAL, copy_rate, refuse_partial, say_copied, show_copied
from lazyfs.cli.progress import Counter
from lazyfs.cli.readable_store import open_readable
from lazyfs.cli.store_options import json_option
from lazyfs.core.errors import UsageError
from lazyfs.repository.mirror import WORKERS
from lazyfs.repository.preload import Preload
from lazyfs.store import create_store


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

    Mount DIR as the store, or mount another store with `--lower DIR`: only what DIR lacks comes from the
    other store. Run it again for a new revision: only what is new is fetched, and a run that was killed goes
    on where it was.

    \b
    Examples:
      lazyfs preload --from https://origin.example/unpacked --to /scratch/unpacked
      lazyfs preload --from /srv/unpacked --to /scratch/some library/alpine:3.10.2
    """
    if "://" in target:
        raise UsageError(f"--to {target}: give a directory; lazyfs mirror copies into buckets")
    rate = copy_rate(limit)
    store = create_store(target)
    partial = os.path.join(target, PARTIAL)
    if not images:
        refuse_partial(target, "--to ")
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
            advance=lambda so_far: show_copied(counter, so_far),
        )
        report = mirror.take(images) if images else mirror.run()
    return say_copied(report, as_json=as_json)
