"""`lazyfs commit`: makes a revision from the images that the shards of a plan have converted."""

from datetime import UTC, datetime

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.repository.opened_repository import open_repository
from lazyfs.sync.plan import read_plan
from lazyfs.sync.plan_commit import commit_plan
from lazyfs.sync.settings import read_settings


@click.command()
@click.argument("plan", metavar="PLAN")
@click.argument("store")
@keys_option
@click.option("--config", "configuration", metavar="FILE", help="The service's configuration (TOML).")
@click.option(
    "--finish", is_flag=True, help="End the plan though images are missing: gc waits no longer for it."
)
@json_option
def command(
    plan: str, store: str, keys: str | None, configuration: str | None, finish: bool, as_json: bool
) -> int:
    """Make one revision in STORE from the images that the shards of PLAN have converted, and say which images
    of PLAN are missing.

    While images are missing the plan goes on: convert them, and commit again.

    Exits 0 if the revision has all images of the plan, 1 if some are missing.

    \b
    Example:
      lazyfs commit plan.json s3://unpacked/images
    """
    found = read_plan(plan)
    repository = open_repository(store, keys)
    report = commit_plan(
        repository.store,
        repository.keys,
        found,
        lambda: datetime.now(UTC),
        finish=finish,
        last_update=read_settings(configuration).service.last_update,
    )
    if as_json:
        say_json({"repository": repository.name, **report._asdict()})
    else:
        for place, reason in report.missing.items():
            say(f"missing {place}: {reason}")
        said = f"{len(report.committed)} committed, {len(report.missing)} missing"
        say(f"{repository.name} revision {report.revision}: {said}")
    return 1 if report.missing else 0
