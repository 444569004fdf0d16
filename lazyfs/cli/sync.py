"""`lazyfs sync`: brings the images that wishlists ask for into a repository."""

from typing import Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.core.durations import parse_duration
from lazyfs.sync import lists as wishlists
from lazyfs.sync.annotations import STYLES, annotated
from lazyfs.sync.changed_lines import changed_lines
from lazyfs.sync.dask_workers import dask_workers
from lazyfs.sync.lists import ListKeeper
from lazyfs.sync.report import WOULD, Event, Report, Tell
from lazyfs.sync.service_runs import ServiceRuns
from lazyfs.sync.settings import read_settings


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
@click.option("--max-age", default="0s", help="Ask no tag again within this time, like 1h [default: 0s].")
@click.option(
    "--max-delete",
    type=click.IntRange(0),
    metavar="N",
    help="If more images would leave the tree, none does [default: of the configuration, or 20].",
)
@click.option("--wait", default="0s", help="Wait so long for another run to end, like 30m [default: 0s].")
@click.option("--forget", multiple=True, metavar="WISHLIST", help="Give a list up: what only it wished goes.")
@click.option(
    "--accept-shorter",
    multiple=True,
    metavar="WISHLIST",
    help="A list that is meant to have lost most wishes.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Have images read by the workers of this Dask scheduler (tcp://HOST:PORT).",
)
@json_option
def command(words: tuple[str, ...], keys: str | None, since: str | None, check: bool, **options: Any) -> int:
    """Bring the images that the wishlists ask for into STORE, and remove those that none asks for any more.

    WISHLIST is a file, a directory of them, or an https:// address, in the format of CERN (YAML), OSG (text),
    skopeo sync, regsync, or lazyfs. An unchanged tag costs one request; an image that fails keeps its last
    good version. Exits 0 if all is as wished, 1 if some of it failed, 2 if nothing could be done.

    \b
    Examples:
      lazyfs sync --check wishlist.yaml
      lazyfs sync wishlist.yaml /srv/unpacked --dry-run
      lazyfs sync wishlist.yaml docker_images.txt /srv/unpacked --status-dir /var/lib/lazyfs/status
    """
    if since and not check:
        raise click.UsageError("--since looks at lines of --check")
    if check:
        return _check(words, since, options["annotate"])
    *names, store = words
    if not names and not options["forget"]:
        raise click.UsageError("give at least one WISHLIST, then the STORE")
    tell: Tell = (lambda _line: None) if options["as_json"] else say_progress
    runs = ServiceRuns(store, keys, read_settings(options["configuration"]), options["status_dir"], tell)
    max_age = parse_duration(options["max_age"], "--max-age")
    wait = parse_duration(options["wait"], "--wait")
    with dask_workers(options["dask"], store) as workers:
        report = runs.sync(
            names,
            forget=options["forget"],
            accept_shorter=options["accept_shorter"],
            max_age=max_age,
            max_delete=options["max_delete"],
            dry_run=options["dry_run"],
            wait=wait,
            workers=workers,
        )
    show_report(runs.name, report, as_json=options["as_json"], dry_run=options["dry_run"])
    return report.exit_code


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


def say_progress(line: str) -> None:
    """Shows a line of progress on stderr."""
    say(line, err=True)


def show_report(name: str, report: Report, *, as_json: bool, dry_run: bool = False) -> None:
    """Prints the report of a run. `name`: the repository's name."""
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
        say(f"{what} {event.image}{digest}{_known(event)}" + (f": {event.reason}" if event.reason else ""))
    if report.refused:
        say(f"lazyfs: {report.refused}", err=True)
    done = ", ".join(
        f"{report.count(kind)} {kind}" for kind in ("published", "moved", "removed", "failed", "waiting")
    )
    if trouble := [event for event in report.events if event.is_trouble]:
        new = sum(event.new and not event.acknowledged for event in trouble)
        known = sum(bool(event.acknowledged) for event in trouble)
        done += f" ({new} new, {known} acknowledged)"
    said = "a run would give: " if dry_run else ""
    say(f"{name} revision {report.revision}: {said}{report.unchanged} unchanged, {done}")


def _known(event: Event) -> str:
    """Returns the note ` (as before)` or ` (acknowledged until ...)` for a known failure; an empty text for
    other events."""
    if event.acknowledged:
        return f" (acknowledged until {event.acknowledged})"
    return "" if event.new or not event.is_trouble else " (as before)"
