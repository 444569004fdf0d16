"""`lazyfs convert`: converts the images of one shard of a plan."""

import click

from lazyfs.cli.say import say
from lazyfs.core.digits import natural
from lazyfs.sync.plan import MOST_SHARDS, read_plan
from lazyfs.sync.registries import Registries
from lazyfs.sync.settings import read_settings
from lazyfs.sync.shards import Shard


@click.command()
@click.argument("plan", metavar="PLAN")
@click.argument("store")
@click.option(
    "--shard", default="1/1", show_default=True, metavar="I/N", help="The I-th of N shards, from 1."
)
@click.option("--config", "configuration", metavar="FILE", help="The service's configuration (TOML).")
def command(plan: str, store: str, shard: str, configuration: str | None) -> int:
    """Convert the I-th of N shards of PLAN: upload objects and layers to STORE, and commit nothing.

    Shards may run side by side, one after the other, and again; a layer that several images share is
    converted by one of them. No key is needed.

    Exits 0 if all images of the shard are converted, 1 if some failed or wait for layers that other shards
    convert. The shard that ends last converts the images that wait.

    \b
    Examples:
      lazyfs convert plan.json s3://unpacked/images
      lazyfs convert plan.json --shard $CI_NODE_INDEX/$CI_NODE_TOTAL s3://unpacked/images
    """
    number, shards = _parse(shard)
    found = read_plan(plan)
    settings = read_settings(configuration)
    with Registries(settings.registries) as registries:
        surroundings = found.surroundings(store, registries)
    work = Shard(
        found,
        surroundings,
        number - 1,
        shards,
        at_once=settings.service.images_at_once,
        tell=say,
    )
    report = work.run()
    said = f"{len(report.converted)} converted, {len(report.failed)} failed, {len(report.waiting)} waiting"
    say(f"{found.repository} shard {number} of {shards}: {said}")
    return 1 if report.failed or report.waiting else 0


def _parse(text: str) -> tuple[int, int]:
    first, slash, second = text.partition("/")
    number, shards = natural(first), natural(second)
    if not slash or number is None or shards is None or not 1 <= number <= shards <= MOST_SHARDS:
        raise click.UsageError(f"--shard {text}: give I/N, with I from 1 to N and N up to {MOST_SHARDS}")
    return number, shards
