"""`lazyfs publish`: images and trees into a store, as its next revision."""

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from lazyfs.cli.layers_shown import ShownLayers
from lazyfs.cli.registry_options import image_options, registry_options
from lazyfs.core.codec import LEVEL
from lazyfs.images import publisher
from lazyfs.repository import commit as commits
from lazyfs.repository import keys as key_files
from lazyfs.store.directory import DirectoryStore


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("store")
@click.option("--as", "place", metavar="PATH", help="Where it hangs: registry/repository:tag, or a path.")
@click.option(
    "--keys", metavar="DIR", help="Directory of the private keys [default: ~/.config/lazyfs/keys/NAME]."
)
@registry_options
@click.option("--allow-public", is_flag=True, help="Publish images that need an account to be pulled, too.")
@click.option(
    "--level", default=LEVEL, show_default=True, type=click.IntRange(1, 19), help="zstd compression level."
)
@click.option("--plain", is_flag=True, help="Add no bind points or start-up files to images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    sources: tuple[str, ...],
    store: str,
    place: str | None,
    keys: str | None,
    allow_public: bool,
    level: int,
    plain: bool,
    as_json: bool,
    **registry: Any,
) -> None:
    """Publish images and trees into STORE as one new revision, or none if nothing changed.

    SOURCE is docker://[REGISTRY/]REPOSITORY[:TAG][@DIGEST], oci:DIR[:NAME], docker-archive:FILE[:REFERENCE],
    tar:FILE or dir:DIR. FILE may be - for the standard input; :@N names the N-th image, from 0.

    \b
    Examples:
      lazyfs publish docker://registry.example/debian:bookworm /srv/unpacked
      lazyfs publish oci:./layout:bookworm /srv/unpacked --as registry.example/debian:bookworm
      lazyfs publish dir:/opt/software /srv/unpacked --as software/2026
    """
    if place and len(sources) > 1:
        raise click.UsageError("--as names one place: publish the sources one by one")
    opened = DirectoryStore(store)
    name = commits.current(opened).name
    shown = ShownLayers(enabled=not as_json)
    options = publisher.Options(
        images=image_options(registry, allow_public=allow_public),
        place=place,
        level=level,
        plain=plain,
        watch=shown,
    )
    loaded = key_files.load(keys or key_files.default_directory(name))
    with shown:
        report = publisher.publish(opened, loaded, sources, options, lambda: datetime.now(UTC))
    if as_json:
        answer = {
            "repository": name,
            "revision": report.revision.number,
            "changed": report.changed,
            "root": report.revision.root.digest.hex(),
            "places": report.places,
            "new_objects": report.new_objects,
            "new_bytes": report.new_bytes,
        }
        click.echo(msgspec.json.encode(answer))
        return
    for source, where in report.places.items():
        click.echo(f"{source} -> {where}")
    if report.changed:
        click.echo(
            f"{name} revision {report.revision.number}: {report.new_objects} new objects, "
            f"{report.new_bytes} bytes stored"
        )
    else:
        click.echo(f"{name} revision {report.revision.number}: up to date")
