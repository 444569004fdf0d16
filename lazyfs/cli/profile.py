"""`lazyfs profile`: what a start touched, hung beside its image for the next ones."""

from datetime import UTC, datetime

import click
import msgspec

from lazyfs.images import profiles
from lazyfs.repository import commit as commits
from lazyfs.repository import keys as key_files
from lazyfs.store.directory import DirectoryStore


@click.command()
@click.argument("image")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.argument("store")
@click.option(
    "--keys", metavar="DIR", help="Directory of the private keys [default: ~/.config/lazyfs/keys/NAME]."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(image: str, traces: tuple[str, ...], store: str, keys: str | None, as_json: bool) -> None:
    """Publish a profile of IMAGE: workers fetch what is in it, in a few requests, when the image is entered.

    A TRACE is written by `lazyfs mount --trace FILE` while a program starts from the image. What the traces
    touched of other images is passed over. A new profile replaces the image's old one.

    \b
    Example:
      lazyfs mount http://origin.example/unpacked /mnt --trace start.trace
      lazyfs run --mount /mnt physics/analysis:1.2 -- python3 job.py
      lazyfs profile registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """
    opened = DirectoryStore(store)
    name = commits.current(opened).name
    loaded = key_files.load(keys or key_files.default_directory(name))
    touched = profiles.read_traces(traces)
    report = profiles.make(opened, loaded, image, touched, lambda: datetime.now(UTC))
    if as_json:
        answer = {
            "repository": name,
            "revision": report.revision.number,
            "changed": report.changed,
            "place": report.place,
            "objects": report.objects,
            "bundles": report.bundles,
            "stored_bytes": report.stored_bytes,
            "left_out": report.left_out,
        }
        click.echo(msgspec.json.encode(answer))
        return
    beyond = f"; {report.left_out} more left out: too large for a start" if report.left_out else ""
    click.echo(
        f"{report.place}: {report.objects} objects in {report.bundles} bundles of {report.stored_bytes} bytes"
        f"{beyond}"
    )
    news = "" if report.changed else ": up to date"
    click.echo(f"{name} revision {report.revision.number}{news}")
