"""`lazyfs check`: verifies every object that a repository refers to."""

from typing import Any

import click
import msgspec
from tuf.api.metadata import Targets

from lazyfs.cli.layers_shown import ShownLayers
from lazyfs.cli.progress import Counter
from lazyfs.cli.registry_options import bind_point_option, image_options, read_bind_points, registry_options
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import TrustError, UsageError
from lazyfs.core.params import Revision
from lazyfs.images.registry_comparison import compare
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.repository.committed import read_committed
from lazyfs.repository.delegation import signed_list
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, open_store, reader
from lazyfs.store.check import CheckFindings, check


@click.command()
@click.argument("store")
@json_option
@click.option("--against", metavar="SOURCE", help="Compare one published image with docker://REFERENCE.")
@click.option("--as", "place", metavar="PATH", help="With --against: the published name, if it is another.")
@bind_point_option
@registry_options
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Threads.")
def command(
    store: str,
    as_json: bool,
    against: str | None,
    place: str | None,
    bind_points: tuple[str, ...],
    workers: int,
    **registry: Any,
) -> int:
    """Read every object that the committed revision and the collected profiles of STORE lead to, and compare
    sizes and digests.

    With --against, fetch an image from its registry (or another source), verify it, and compare the tree that
    its layers make with the published one; give --bind-point for each directory that was added by this option
    when the image was published.

    Exits 0 if all is right, 1 if something is missing or wrong.

    \b
    Examples:
      lazyfs check /srv/unpacked
      lazyfs check /srv/unpacked --against docker://registry.example/app:1
    """
    opened = open_store(store)
    committed = read_committed(opened)
    revision = committed.revision
    if against:
        options = image_options(registry, allow_public=True)
        added = read_bind_points(bind_points)
        return _against(opened, revision, against, place, options, added, as_json)
    collected, refused = _collected(opened, committed.proven.targets)
    with Counter(enabled=not as_json) as counter:
        findings = check(
            opened,
            revision.root,
            history=revision.history,
            collected=collected,
            workers=workers,
            advance=lambda so_far: counter.show(_progress(so_far)),
        )
    findings.bad += len(refused)
    findings.problems += refused
    if as_json:
        answer = {"repository": revision.name, "revision": revision.number}
        say_json({**answer, **msgspec.to_builtins(findings)})
    else:
        for problem in findings.problems:
            say(f"lazyfs: {problem}", err=True)
        say(f"{revision.name} revision {revision.number}: {_summary(findings)}")
    return 1 if findings.bad else 0


def _collected(store: Store, publisher: Targets) -> tuple[ObjectRef | None, list[str]]:
    """Returns (the list of collected profiles, problems). The list is None if STORE has none. A list without
    a valid signature is a problem, and None is returned for it, because no worker accepts it."""
    try:
        found = signed_list(store, publisher)
    except TrustError as error:
        return None, [f"{error}; workers pass over it: lazyfs collect signs a new list"]
    return (found[1] if found else None), []


def _progress(findings: CheckFindings) -> str:
    return f"{findings.objects} objects, {findings.bytes >> 20} MiB checked, {findings.bad} bad"


def _summary(findings: CheckFindings) -> str:
    return (
        f"{findings.objects} objects, {findings.bytes} bytes ({findings.stored_bytes} stored), "
        f"{findings.catalogs} catalogs, {findings.entries} entries: "
        f"{f'{findings.bad} bad' if findings.bad else 'all right'}"
    )


def _against(
    store: Store,
    revision: Revision,
    source: str,
    place: str | None,
    options: ImageOptions,
    bind_points: tuple[str, ...],
    as_json: bool,
) -> int:
    tree = StoredTree(reader(store), revision.root)
    with ShownLayers(enabled=not as_json) as shown, open_image(source, options) as image:
        where = find_place(tree, place) if place else image.place
        if where is None:
            raise UsageError(f"{source}: say with --as where it is published")
        problems = compare(image, where, tree, revision.params, shown, bind_points)
    if as_json:
        say_json({"image": source, "place": where, "problems": problems})
    else:
        for problem in problems:
            say(f"lazyfs: {problem}", err=True)
        say(f"{where} against {source}: {f'{len(problems)} differences' if problems else 'the same'}")
    return 1 if problems else 0
