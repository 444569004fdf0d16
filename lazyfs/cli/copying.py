"""The rate limit, the target's marker, and the printed report, of the commands that copy a repository: mirror
and preload."""

import os

import click
import msgspec

from lazyfs.cli.progress import Counter
from lazyfs.cli.say import say, say_json
from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import UsageError
from lazyfs.repository.mirror_removal import MirrorReport

PARTIAL = ".partial"
"""The name of a marker file. It states that its directory holds only some images, so that objects which
catalogs name may be missing."""


def refuse_partial(target: str, option: str = "") -> None:
    """Raises UsageError if the target holds only some images: a copy of the whole repository would take it
    that all below the catalogs is there. `option`: the one that names the target, with a space."""
    if os.path.exists(os.path.join(target, PARTIAL)):
        raise UsageError(
            f"{option}{target} holds some images only: name images (lazyfs preload), or choose another "
            "directory"
        )


def copy_rate(limit: str | None) -> int | None:
    """Returns the bytes a second that the value of --limit states; None without the option. Raises
    UsageError."""
    rate = parse_size(limit, "--limit") if limit else None
    if rate == 0:
        raise click.UsageError("--limit 0 would copy nothing: leave it out for no limit")
    return rate


def show_copied(counter: Counter, so_far: MirrorReport) -> None:
    """Shows the objects and bytes that have been copied so far."""
    counter.show(f"{so_far.objects} objects, {shown_size(so_far.bytes)}")


def say_copied(report: MirrorReport, *, as_json: bool) -> int:
    """Prints the report of a copy. Returns the exit code: 1 if something could not be deleted, or if a
    collected profile could not be copied; otherwise 0."""
    if as_json:
        say_json(msgspec.to_builtins(report))
    else:
        for problem in report.problems:
            say(f"lazyfs: {problem}", err=True)
        news = (
            f"{report.objects} objects, {report.bytes} bytes copied"
            if report.changed or report.objects
            else "up to date"
        )
        say(f"revision {report.revision}: {news}, {report.deleted} objects deleted")
    return 1 if report.problems else 0
