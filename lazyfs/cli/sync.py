"""`lazyfs sync`: brings the images that wishlists ask for into a repository."""

import os
import platform as host
from datetime import UTC, datetime
from typing import Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option, open_repository
from lazyfs.core.durations import parse_duration
from lazyfs.core.oci.platform import parse_platform
from lazyfs.sync import lists as wishlists
from lazyfs.sync.annotations import STYLES, annotated
from lazyfs.sync.changed_lines import changed_lines
from lazyfs.sync.event_file import append_events, latest_events
from lazyfs.sync.lists import GivenList, ListKeeper
from lazyfs.sync.registries import Registries
from lazyfs.sync.report import WOULD, Report
from lazyfs.sync.service import Service
from lazyfs.sync.settings import read_settings
from lazyfs.sync.state import State, held, read_state, write_state
from lazyfs.sync.status_directory import default_status_directory

SHOWN_EVENTS = 500
"""Latest events on the status site."""


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WISHLIST... STORE")
@keys_option
@click.option("--config", "configuration", metavar="FILE", help="The service's configuration (TOML).")
@click.option(
    "--status-dir", metavar="DIR", help="What runs remember [default: below ~/.local/state/lazyfs]."
)
@click.option("--check", is_flag=True, help="Only read the wishlists; no STORE is needed.")
@click.option(
    "--since", metavar="GITREF", help="With --check: only lines changed since this revision of Git."
)
@click.option(
    "--annotate", type=click.Choice(list(STYLES)), default="text", help="With --check: the CI to write for."
)
@click.option("--dry-run", is_flag=True, help="Say what would happen; registries are only asked.")
@click.option("--max-age", default="0s", help="Ask no tag again that was asked for this lately, like 1h.")
@click.option(
    "--max-delete", type=click.IntRange(0), help="Images that may leave the tree; over that none does."
)
@click.option("--forget", multiple=True, metavar="WISHLIST", help="Give a list up: what only it wished goes.")
@click.option(
    "--accept-shorter",
    multiple=True,
    metavar="WISHLIST",
    help="A list that is meant to have lost most wishes.",
)
@json_option
def command(words: tuple[str, ...], keys: str | None, since: str | None, check: bool, **options: Any) -> int:
    """Bring the images that the wishlists ask for into STORE, and take out those that none asks for any more.

    WISHLIST is a file, a directory of them, or an https:// address, in the format of CERN (YAML), OSG (text),
    skopeo sync, regsync, or lazyfs. An unchanged tag costs one request; an image that fails keeps its last
    good version. Exits 0 if all is as wished, 1 if some of it failed, 2 if nothing could be done.

    \b
    Examples:
      lazyfs sync --check wishlist.yaml
      lazyfs sync wishlist.yaml /srv/unpacked --dry-run
      lazyfs sync wishlist.yaml docker_images.txt /srv/unpacked --status-dir /var/lib/lazyfs
    """
    if since and not check:
        raise click.UsageError("--since looks at lines of --check")
    if check:
        return _check(words, since, options["annotate"])
    *names, store = words
    if not names and not options["forget"]:
        raise click.UsageError("give at least one WISHLIST, then the STORE")
    settings = read_settings(options["configuration"])
    service = settings.service
    repository = open_repository(store, keys)
    status = options["status_dir"] or default_status_directory(repository.name)
    dry_run = options["dry_run"]
    with held(status), Registries(settings.registries) as registries:
        state = read_state(status, repository.name)
        forgotten = tuple(map(wishlists.shown_name, options["forget"]))
        meant = frozenset(map(wishlists.shown_name, options["accept_shorter"]))
        keeper = ListKeeper(os.path.join(status, "lists"), meant=meant)
        given = _load(names, keeper, forgotten, dry_run=dry_run)
        report = Service(
            repository.store,
            repository.keys,
            registries,
            service,
            service.chosen_platforms[0] if service.platforms else parse_platform(host.machine()),
            lambda: datetime.now(UTC),
            save=lambda now: write_state(status, now),
            tell=lambda line: None if options["as_json"] else say(line, err=True),
            platform_asked=bool(service.platforms),
            max_age=parse_duration(options["max_age"], "--max-age"),
            max_delete=service.max_delete if options["max_delete"] is None else options["max_delete"],
            dry_run=dry_run,
            forgotten=forgotten,
        ).run(given, state)
        if not dry_run:
            append_events(status, report.events)
            _write_site(service.site or os.path.join(status, "site"), status, state)
    _show(repository.name, report, as_json=options["as_json"], dry_run=dry_run)
    return report.exit_code


def _load(
    names: list[str], keeper: ListKeeper, forgotten: tuple[str, ...], *, dry_run: bool
) -> list[GivenList]:
    """Returns the lists in force, and keeps the content of those that are good."""
    if not dry_run:
        for name in forgotten:
            keeper.forget(name)
    given = [wishlists.load(name, keeper) for name in wishlists.expand(names)]
    if not dry_run:
        for one in given:
            keeper.take(one)
    return given


def _write_site(directory: str, status: str, state: State) -> None:
    from lazyfs.sync.site.document import document
    from lazyfs.sync.site.pages import pages  # jinja2 takes 50 ms to import
    from lazyfs.sync.site.write import write_site

    events = latest_events(status, SHOWN_EVENTS)
    write_site(directory, pages(document(state, events, int(datetime.now(UTC).timestamp()))))


def _check(names: tuple[str, ...], since: str | None, style: str) -> int:
    nothing_kept = ListKeeper(None)
    opened = wishlists.expand(names)
    given = [wishlists.load(name, nothing_kept) for name in opened]
    bad = False
    found = []
    for path, one in zip(opened, given, strict=True):
        lines = changed_lines(one.name if "://" in path else path, since) if since else None
        shown = [item for item in one.problems if lines is None or not item.line or item.line in lines]
        found += [(one.name, item) for item in shown]
        bad |= any(item.error for item in shown)
    for line in annotated(found, style):
        say(line)
    if style == "text":
        for one in given:
            say(f"{one.name}: {one.lists.format or 'no wishlist'}, {len(one.lists.wishes)} wishes")
    return 1 if bad else 0


def _show(name: str, report: Report, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        say_json(
            {
                "repository": name,
                "revision": report.revision,
                "unchanged": report.unchanged,
                "events": report.events,
                "notices": report.notices,
                "refused": report.refused,
                "exit_code": report.exit_code,
            }
        )
        return
    for notice in report.notices:
        say(f"lazyfs: {notice}", err=True)
    for event in report.events:
        what = WOULD.get(event.event, event.event) if dry_run else event.event
        digest = f" {event.digest}" if event.digest and not event.reason else ""
        say(f"{what} {event.image}{digest}" + (f": {event.reason}" if event.reason else ""))
    if report.refused:
        say(f"lazyfs: {report.refused}", err=True)
    done = ", ".join(
        f"{report.count(kind)} {kind}" for kind in ("published", "moved", "removed", "failed", "waiting")
    )
    said = "a run would give: " if dry_run else ""
    say(f"{name} revision {report.revision}: {said}{report.unchanged} unchanged, {done}")
