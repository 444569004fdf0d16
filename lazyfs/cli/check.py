"""`lazyfs check`: is everything a repository leads to there, and right?"""

from typing import Any

import click
import msgspec

from lazyfs.cli.layers_shown import ShownLayers
from lazyfs.cli.progress import Counter
from lazyfs.cli.registry_options import image_options, registry_options
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.images.registry_comparison import compare
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.repository import commit as commits
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.check import Findings, check
from lazyfs.store.directory import DirectoryStore


@click.command()
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--against", metavar="SOURCE", help="Compare one published image with docker://REFERENCE.")
@click.option("--as", "place", metavar="PATH", help="With --against: where it is published, if elsewhere.")
@registry_options
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Threads.")
def command(
    store: str, as_json: bool, against: str | None, place: str | None, workers: int, **registry: Any
) -> int:
    """Read every object that the committed revision of STORE leads to, and compare sizes and digests.

    With --against, fetch an image from its registry (or another source), verify it, and compare what its
    layers give with what is published.

    Exits 0 if all is right, 1 if something is missing or wrong.

    \b
    Examples:
      lazyfs check /srv/unpacked
      lazyfs check /srv/unpacked --against docker://registry.example/app:1
    """
    opened = DirectoryStore(store)
    revision = commits.current(opened)
    if against:
        return _against(opened, revision, against, place, image_options(registry, allow_public=True), as_json)
    with Counter(enabled=not as_json) as counter:

        def advance(findings: Findings) -> None:
            counter.show(
                f"{findings.objects} objects, {findings.bytes >> 20} MiB checked, {findings.bad} bad"
            )

        root = revision.root
        findings = check(opened, root, workers=workers, advance=advance)
    if as_json:
        answer = {"repository": revision.name, "revision": revision.number}
        click.echo(msgspec.json.encode({**answer, **msgspec.to_builtins(findings)}))
    else:
        for problem in findings.problems:
            click.echo(f"lazyfs: {problem}", err=True)
        click.echo(
            f"{revision.name} revision {revision.number}: {findings.objects} objects, "
            f"{findings.bytes} bytes ({findings.stored_bytes} stored), {findings.catalogs} catalogs, "
            f"{findings.entries} entries: {f'{findings.bad} bad' if findings.bad else 'all right'}"
        )
    return 1 if findings.bad else 0


def _against(
    store: DirectoryStore,
    revision: Revision,
    source: str,
    place: str | None,
    options: ImageOptions,
    as_json: bool,
) -> int:
    tree = StoredTree(store, revision.root)
    with ShownLayers(enabled=not as_json) as shown, open_image(source, options) as image:
        where = place or image.place
        if where is None:
            raise UsageError(f"{source}: say with --as where it is published")
        problems = compare(image, where, tree, revision.params, shown)
    if as_json:
        click.echo(msgspec.json.encode({"image": source, "place": where, "problems": problems}))
    else:
        for problem in problems:
            click.echo(f"lazyfs: {problem}", err=True)
        click.echo(f"{where} against {source}: {f'{len(problems)} differences' if problems else 'the same'}")
    return 1 if problems else 0
