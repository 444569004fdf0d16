"""`lazyfs publish`: puts images and trees into a store, as its next revision."""

from datetime import UTC, datetime
from typing import Any

import click

from lazyfs.cli.layers_shown import ShownLayers
from lazyfs.cli.registry_options import bind_point_option, image_options, read_bind_points, registry_options
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.core.codec import LEVEL
from lazyfs.images.publisher import PublishOptions, PublishReport, publish
from lazyfs.repository.opened_repository import open_repository


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("store")
@click.option(
    "--as", "place", metavar="PATH", help="Place in the repository: registry/repository:tag, or a path."
)
@keys_option
@registry_options
@click.option("--allow-public", is_flag=True, help="Publish even images that need an account to be pulled.")
@click.option(
    "--level",
    default=LEVEL,
    show_default=True,
    type=click.IntRange(1, 19),
    help="zstd compression level.",
)
@click.option("--plain", is_flag=True, help="Add no bind points or start-up files to images.")
@bind_point_option
@click.option(
    "--inherit-profile/--no-inherit-profile",
    default=True,
    show_default=True,
    help="Give a new image the profile of its repository's last one, as far as it applies.",
)
@click.option(
    "--guess-profile",
    is_flag=True,
    help="Guess one for a new image that inherits none, from its command.",
)
@json_option
def command(
    sources: tuple[str, ...],
    store: str,
    place: str | None,
    keys: str | None,
    allow_public: bool,
    level: int,
    plain: bool,
    bind_points: tuple[str, ...],
    inherit_profile: bool,
    guess_profile: bool,
    as_json: bool,
    **registry: Any,
) -> None:
    """Publish images and trees into STORE as one new revision, or none if nothing changed.

    SOURCE is docker://[REGISTRY/]REPOSITORY[:TAG][@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    docker-archive:FILE[:REFERENCE], sif:FILE, tar:FILE or dir:DIR. FILE may be - for the standard input; :@N
    names the N-th image, from 0.

    \b
    Examples:
      lazyfs publish docker://registry.example/debian:bookworm /srv/unpacked
      lazyfs publish oci:./layout:bookworm /srv/unpacked --as registry.example/debian:bookworm
      lazyfs publish sif:app.sif /srv/unpacked --as registry.example/team/app:1
      lazyfs publish dir:/opt/software /srv/unpacked --as software/2026
    """
    if place and len(sources) > 1:
        raise click.UsageError("--as names one place: publish the sources one by one")
    if plain and bind_points:
        raise click.UsageError("--plain adds no bind points: leave out one of --plain and --bind-point")
    repository = open_repository(store, keys)
    shown = ShownLayers(enabled=not as_json)
    options = PublishOptions(
        images=image_options(registry, allow_public=allow_public),
        place=place,
        level=level,
        plain=plain,
        bind_points=read_bind_points(bind_points),
        inherit_profiles=inherit_profile,
        guess_profiles=guess_profile,
        observer=shown,
    )
    with shown:
        report = publish(repository.store, repository.keys, sources, options, lambda: datetime.now(UTC))
    if as_json:
        say_json(_fields(repository.name, report))
    else:
        say(*_lines(repository.name, report))


def _fields(name: str, report: PublishReport) -> dict[str, Any]:
    return {
        "repository": name,
        "revision": report.revision.number,
        "changed": report.changed,
        "root": report.revision.root.digest.hex(),
        "places": report.places,
        "new_objects": report.new_objects,
        "new_bytes": report.new_bytes,
    }


def _lines(name: str, report: PublishReport) -> list[str]:
    lines = [f"{source} -> {place}" for source, place in report.places.items()]
    news = f"{report.new_objects} new objects, {report.new_bytes} bytes stored"
    lines.append(f"{name} revision {report.revision.number}: {news if report.changed else 'up to date'}")
    return lines
