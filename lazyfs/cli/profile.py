"""`lazyfs profile`: publishes the list of objects that a start of an image read, for the next starts."""

from datetime import UTC, datetime
from typing import Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option, open_repository
from lazyfs.images import profiles


@click.command()
@click.argument("image")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.argument("store")
@keys_option
@json_option
def command(image: str, traces: tuple[str, ...], store: str, keys: str | None, as_json: bool) -> None:
    """Publish a profile of IMAGE: workers fetch its objects in a few requests when the image is entered.

    A TRACE is written by `lazyfs mount --trace FILE` while a program starts from the image. Objects of other
    images in it are passed over. A new profile replaces the image's old one.

    \b
    Example:
      lazyfs mount http://origin.example/unpacked /mnt --trace start.trace
      lazyfs run registry.example/physics/analysis:1.2 -- python3 job.py
      lazyfs profile registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """
    repository = open_repository(store, keys)
    touched = profiles.read_traces(traces)
    report = profiles.publish_profile(
        repository.store, repository.keys, image, touched, lambda: datetime.now(UTC)
    )
    if as_json:
        say_json(_fields(repository.name, report))
    else:
        say(*_lines(repository.name, report))


def _fields(name: str, report: profiles.ProfileReport) -> dict[str, Any]:
    return {
        "repository": name,
        "revision": report.revision.number,
        "changed": report.changed,
        "place": report.place,
        "objects": report.objects,
        "bundles": report.bundles,
        "stored_bytes": report.stored_bytes,
        "left_out": report.left_out,
    }


def _lines(name: str, report: profiles.ProfileReport) -> list[str]:
    beyond = f"; {report.left_out} more left out: too large for a start" if report.left_out else ""
    news = "" if report.changed else ": up to date"
    return [
        f"{report.place}: {report.objects} objects in {report.bundles} bundles of "
        f"{report.stored_bytes} bytes{beyond}",
        f"{name} revision {report.revision.number}{news}",
    ]
