"""`lazyfs log`: the revisions of a repository, and the changes of each."""

import os
import time
from collections.abc import Iterator
from typing import Any

import click

from lazyfs.cli.history_source import HistorySource, open_history
from lazyfs.cli.history_text import change_lines, changes_shown, revision_line, shown_digest
from lazyfs.cli.say import say, say_json
from lazyfs.cli.setting_options import setting_options
from lazyfs.core.errors import UsageError
from lazyfs.core.history.records import Change, PastRevision
from lazyfs.core.image_names import candidates
from lazyfs.core.moments import rfc3339

FEW = 20
"""The number of revisions that are shown by default."""


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="[IMAGE] STORE|URL")
@click.option("-n", "--number", type=click.IntRange(1), help=f"Show the last N [{FEW}; of an image all].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@setting_options("trust", "proxy", "ca", "client_cert", "client_key", "cache")
def command(places: tuple[str, ...], number: int | None, as_json: bool, **settings: Any) -> None:
    """List the revisions of the repository at STORE or URL, newest first, each with the images that it added
    (+), removed (-) or replaced (~). A revision that is no longer kept can be mounted or brought back only
    until the next `lazyfs gc`.

    With IMAGE, list which digest that name led to, and since when.

    \b
    Examples:
      lazyfs log /srv/unpacked
      lazyfs log registry.example/app:1 /srv/unpacked
      lazyfs log http://origin.example/unpacked --trust root.json -n 5
    """
    if len(places) > 2:
        raise UsageError(f"{len(places)} places given: write lazyfs log [IMAGE] STORE")
    with open_history(places[-1], settings) as source:
        if len(places) == 2:
            _show_image(source, places[0], number, as_json)
        else:
            _show_revisions(source, number or FEW, as_json)


def _show_revisions(source: HistorySource, number: int, as_json: bool) -> None:
    names = source.names()
    replaced: int | None = None
    for past, _ in zip(source.revisions(), range(number), strict=False):
        changes = source.changes(past)
        kept = past.number in names or source.is_kept(replaced, time.time())
        replaced = past.time
        if as_json:
            say_json(
                {
                    "revision": past.number,
                    "time": past.time,
                    "root": past.root.digest.hex(),
                    "names": names.get(past.number, []),
                    "restored": past.restored or None,
                    "kept": kept,
                    "changes": changes_shown(changes),
                }
            )
        else:
            note = "" if kept else "  no longer kept"
            say(revision_line(past, names.get(past.number, []), note), *change_lines(changes))


def _show_image(source: HistorySource, image: str, number: int | None, as_json: bool) -> None:
    found = 0
    for past, change in _changes_of(source, image):
        path, digest = os.fsdecode(change.path), shown_digest(change.new)
        if as_json:
            say_json(
                {
                    "revision": past.number,
                    "time": past.time,
                    "path": path,
                    "change": change.kind,
                    "old": shown_digest(change.old),
                    "new": digest,
                }
            )
        else:
            what = digest if change.new else "removed"
            say(f"revision {past.number}  {rfc3339(past.time)}  {path}  {what}")
        found += 1
        if found == number:
            return
    if not found:
        raise UsageError(f"no revision of the history has an image called {image}")


def _changes_of(source: HistorySource, image: str) -> Iterator[tuple[PastRevision, Change]]:
    """Yields each change of the image that a name means, with its revision. If the newest revision has no
    such image, the name may mean any place that was ever in the tree."""
    place = source.place(image)
    wanted = {place.encode(errors="surrogateescape")} if place else None
    registries: set[str] = set()
    if wanted is None:  # gone by now: any place that the name may mean
        for past in source.revisions():
            registries.update(os.fsdecode(change.path).split("/")[0] for change in source.changes(past))
        ranks = candidates(image, sorted(registries))
        wanted = {path.encode(errors="surrogateescape") for rank in ranks for path in rank}
    for past in source.revisions():
        for change in source.changes(past):
            if change.path in wanted:
                yield past, change
