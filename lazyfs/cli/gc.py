"""`lazyfs gc`: deletes the objects that no kept revision leads to."""

from datetime import UTC, datetime

import click
import msgspec

from lazyfs.cli.progress import Counter
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.repository.collect import Collector
from lazyfs.repository.collect_report import CollectObserver, CollectReport
from lazyfs.repository.keys import Keys
from lazyfs.repository.opened_repository import open_repository
from lazyfs.store import open_store

WAIT = 600
"""Seconds to wait, by default, for publishers that are at work."""


class _Shown(CollectObserver):
    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._deleted = 0

    def marked(self, objects: int) -> None:
        self._counter.show(f"{objects} objects in use")

    def waiting(self, publishers: int) -> None:
        self._counter.show(f"waiting for {publishers} publishers under way")

    def deleted(self, objects: int) -> None:
        self._deleted += objects
        self._counter.show(f"{self._deleted} objects deleted")


@click.command()
@click.argument("store")
@keys_option
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and change nothing.")
@click.option(
    "--wait",
    default=WAIT,
    show_default=True,
    type=click.IntRange(0),
    metavar="SECONDS",
    help="How long to wait for publishers under way; what is not done then, the next run does.",
)
@click.option(
    "--despite-missing",
    is_flag=True,
    help="Go on although objects are missing: what only they led to is deleted, for good.",
)
@json_option
def command(
    store: str, keys: str | None, dry_run: bool, wait: int, despite_missing: bool, as_json: bool
) -> int:
    """Delete the objects in STORE that no kept revision leads to.

    The newest revision is kept, and so are those replaced within the repository's keep days and those with a
    name (`lazyfs repo keep`). `lazyfs gc` may run beside publishers, readers, and other runs of it. It may be
    killed at any time: the next run goes on. Needs the timestamp's key, except for --dry-run.

    Exits 0, or 1 if something that a kept revision leads to is missing. Then nothing is deleted, unless
    --despite-missing says that it will not come back.

    \b
    Examples:
      lazyfs gc /srv/unpacked --dry-run
      lazyfs gc /srv/unpacked
    """
    if dry_run:
        opened, signers = open_store(store), Keys()
    else:
        repository = open_repository(store, keys)
        opened, signers = repository.store, repository.keys
    with Counter(enabled=not as_json) as counter:
        collector = Collector(
            opened,
            signers,
            lambda: datetime.now(UTC),
            wait=wait,
            despite_missing=despite_missing,
            observer=_Shown(counter),
        )
        report = collector.dry_run() if dry_run else collector.run()
    if as_json:
        say_json({**msgspec.to_builtins(report), "dry_run": dry_run})
    else:
        for problem in report.problems:
            say(f"lazyfs: {problem}", err=True)
        say(*_lines(report, dry_run))
    return 1 if report.missing else 0


def _lines(report: CollectReport, dry_run: bool) -> list[str]:
    kept = f"{len(report.kept)} revisions kept, {report.reachable} objects in use"
    lines = [f"{report.repository} revision {report.revision}: {kept}"]
    garbage = f"{report.garbage} objects of {report.garbage_bytes} bytes"
    if report.stopped:
        lines.append(
            f"nothing was deleted: {report.missing} objects are missing, and what they led to would be "
            "deleted too. See lazyfs check; bring the files of the store back, or publish again what it "
            "names; then run this again. If they are lost for good: --despite-missing"
        )
        return lines
    if dry_run:
        lines.append(f"{garbage} would be deleted")
    else:
        lines.append(f"{report.deleted} objects deleted" + (f" of {garbage}" if report.garbage else ""))
    if report.left_bytes:
        lines.append(f"{report.left_bytes} bytes deleted that killed publishers had left")
    dead = report.mostly_dead
    if dead.packs:
        lines.append(
            f"{dead.packs} packs of {dead.bytes} bytes are kept for less than half of them: {dead.unused} "
            "bytes are unused until the images that need the rest are gone"
        )
    if report.waiting_for:
        lines.append(f"{report.waiting_for} publishers are under way: run it again when they have ended")
    if report.missing:
        lines.append(f"{report.missing} objects are missing: see lazyfs check")
    return lines
