"""`lazyfs plan`: lists the images that have to be converted, for shards on many machines."""

from datetime import UTC, datetime

import click
import msgspec

from lazyfs.cli.say import say, say_json
from lazyfs.repository.leases import PublisherLease
from lazyfs.store import open_store
from lazyfs.sync import lists as wishlists
from lazyfs.sync.lists import ListKeeper
from lazyfs.sync.plan import LEASE_HOURS, Planner
from lazyfs.sync.registries import Registries
from lazyfs.sync.settings import read_settings


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WISHLIST... STORE")
@click.option("--config", "configuration", metavar="FILE", help="The service's configuration (TOML).")
@click.option(
    "--lease-hours",
    default=LEASE_HOURS,
    show_default=True,
    type=click.FloatRange(0.01, 24 * 30),
    help="How long the plan lives while nobody works by it.",
)
def command(words: tuple[str, ...], configuration: str | None, lease_hours: float) -> int:
    """Print what WISHLISTs ask for and STORE lacks, as JSON for `lazyfs convert` and `lazyfs commit`.

    Registries are asked for tags, manifests and configs. The plan takes a lease in STORE, which `lazyfs gc`
    waits for. No key is needed. Images are neither changed nor taken out of the tree; `lazyfs sync` takes
    them out.

    Exits 0 if every wish could be planned, 1 if some of them failed.

    \b
    Example:
      lazyfs plan wishlist.yaml s3://unpacked/images > plan.json
    """
    *names, location = words
    if not names:
        raise click.UsageError("give at least one WISHLIST, then the STORE")
    settings = read_settings(configuration)
    service = settings.service
    given = [wishlists.load(name, ListKeeper(None)) for name in wishlists.expand(names)]
    store = open_store(location)
    seconds = lease_hours * 3600
    lease = PublisherLease(store, lambda: datetime.now(UTC), length=seconds)
    try:
        with Registries(settings.registries) as registries:
            planner = Planner(
                store,
                registries,
                service.first_platform,
                bool(service.platforms),
                service.layout,
                datetime.now(UTC),
            )
            plan = planner.plan(given, lease, seconds)
        lease.renew()
    except BaseException:
        lease.end_if_possible()
        raise
    say_json(msgspec.to_builtins(plan))
    for one in given:
        for finding in one.problems:
            say(f"lazyfs: {finding.text(one.name)}", err=True)
    for place, reason in plan.failed.items():
        say(f"failed {place}: {reason}", err=True)
    say(f"{plan.repository}: {len(plan.images)} to convert, {plan.unchanged} unchanged", err=True)
    return 1 if plan.failed or any(one.problems for one in given if not one.complete) else 0
