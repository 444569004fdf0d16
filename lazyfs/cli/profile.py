"""`lazyfs profile`: makes, shows and drops the lists of objects that starts of images read."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import OpenedRepository, json_option, keys_option, open_repository
from lazyfs.core.errors import UsageError
from lazyfs.core.path_lists import NAME
from lazyfs.core.printable import escaped
from lazyfs.core.profile import Origin
from lazyfs.images import profiles
from lazyfs.images.profiles.path_lists import find_listed, lists_inside, read_list
from lazyfs.images.profiles.published import PublishedProfile, profile_paths, published_profile
from lazyfs.images.profiles.traces import Touched
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, open_store, reader

SHOWN_MISSING = 5
"""Paths of a list that an image lacks, shown by name."""


@click.group("profile")
def command() -> None:
    """Make, show and drop profiles: what a start reads, fetched in a few requests when its image is entered.

    A new profile replaces the image's old one.

    \b
    Example:
      lazyfs profile make registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """


@command.command("make")
@click.argument("image")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.argument("store")
@keys_option
@json_option
def make(image: str, traces: tuple[str, ...], store: str, keys: str | None, as_json: bool) -> None:
    """Publish a profile of IMAGE made from one or more traces.

    A TRACE is written by `lazyfs mount --trace FILE` while a program starts from the image. Objects of other
    images in it are passed over. Of several traces, all that any of them touched is taken.

    \b
    Example:
      lazyfs mount http://origin.example/unpacked /mnt --trace start.trace
      lazyfs run registry.example/physics/analysis:1.2 -- python3 job.py
      lazyfs profile make registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """
    repository = open_repository(store, keys)
    _publish(repository, image, profiles.read_traces(traces), Origin.RECORDED, as_json=as_json)


@command.command("import")
@click.argument("image")
@click.argument("lists", nargs=-1, metavar="[LIST]...")
@click.argument("store")
@click.option("--in", "directory", metavar="DIR", default="/", help="Directory in IMAGE for relative paths.")
@keys_option
@json_option
def import_(
    image: str, lists: tuple[str, ...], store: str, directory: str, keys: str | None, as_json: bool
) -> None:
    """Publish a profile of IMAGE made from lists of paths.

    A LIST has one path a line, or is a CVMFS file bundle (.cvmfsbundle-FILE). Without a LIST, the file
    bundles inside the image are taken. Paths count from the image's root, or from the repository's. Links are
    followed; paths that the image lacks are passed over.

    \b
    Example:
      lazyfs profile import registry.example/app:1 start.paths /srv/unpacked
    """
    repository = open_repository(store, keys)
    tree = _tree(repository.store)
    if lists:
        paths = [path for one in lists for path in read_list(one, directory)]
    else:
        paths = lists_inside(tree, image)
        if not paths:
            raise UsageError(f"{image} has no .cvmfsbundle-* inside: give a list of paths")
    found = find_listed(tree, image, paths)
    if found.missing:
        shown = ", ".join(f"/{path.decode(errors='replace')}" for path in found.missing[:SHOWN_MISSING])
        more = ", ..." if len(found.missing) > SHOWN_MISSING else ""
        say(f"{image} has not {len(found.missing)} of the paths: {shown}{more}", err=True)
    if not found.touched:
        raise UsageError(f"{image} has no content at any of the {len(paths)} paths")
    _publish(repository, image, found.touched, Origin.IMPORTED, as_json=as_json)


@command.command("show")
@click.argument("image")
@click.argument("store")
@json_option
def show(image: str, store: str, as_json: bool) -> None:
    """Show the profile of IMAGE: where it comes from, its objects and their bytes.

    \b
    Example:
      lazyfs profile show registry.example/app:1 /srv/unpacked
    """
    found = published_profile(_tree(open_store(store)), image)
    size = sum(ref.size for ref in found.members)
    if as_json:
        say_json(_shown(found, size))
        return
    say(
        f"{found.place}: {found.origin}, {len(found.members)} objects of {size} bytes",
        f"  {len(found.bundles)} bundles of {found.stored_bytes} bytes",
    )


@command.command("export")
@click.argument("image")
@click.argument("store")
@click.option(
    "--format", "kind", type=click.Choice(["paths", "cvmfs"]), default="paths", show_default=True,
    help="One path a line, or a CVMFS file bundle.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="File to write [default: standard output]."
)
def export(image: str, store: str, kind: str, output: str | None) -> None:
    """Write the paths of the files that the profile of IMAGE brings, in its order.

    `lazyfs profile import` reads the list again. Names with control characters, which a line cannot hold, are
    left out.

    \b
    Example:
      lazyfs profile export registry.example/app:1 /srv/unpacked -o start.paths
    """
    tree = _tree(open_store(store))
    paths = [
        "/" + path.decode(errors="replace") for path in profile_paths(tree, published_profile(tree, image))
    ]
    held = [path for path in paths if escaped(path) == path and "\N{REPLACEMENT CHARACTER}" not in path]
    if len(held) < len(paths):
        say(f"{image}: {len(paths) - len(held)} names left out, which a line cannot hold", err=True)
    if kind == "cvmfs":
        bundle = {"name": NAME, "version": "1.0.0", "encoding": "UTF-8", "dependencies": held}
        lines = json.dumps(bundle, indent=2, ensure_ascii=False).split("\n")
    else:
        lines = held
    if output is None:
        say(*lines)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from None


@command.command("drop")
@click.argument("image")
@click.argument("store")
@keys_option
@json_option
def drop(image: str, store: str, keys: str | None, as_json: bool) -> None:
    """Take the profile of IMAGE away. `lazyfs gc` frees its bytes once no kept revision has it.

    \b
    Example:
      lazyfs profile drop registry.example/app:1 /srv/unpacked
    """
    repository = open_repository(store, keys)
    revision, changed = profiles.drop_profile(repository.store, repository.keys, image, _now)
    if as_json:
        say_json({"repository": repository.name, "revision": revision.number, "changed": changed})
    else:
        news = "" if changed else f": {image} has no profile"
        say(f"{repository.name} revision {revision.number}{news}")


def _now() -> datetime:
    return datetime.now(UTC)


def _tree(store: Store) -> StoredTree:
    return StoredTree(reader(store), read_revision(store).root)


def _publish(
    repository: OpenedRepository, image: str, touched: Touched, origin: Origin, *, as_json: bool
) -> None:
    report = profiles.publish_profile(repository.store, repository.keys, image, touched, _now, origin=origin)
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


def _shown(found: PublishedProfile, size: int) -> dict[str, Any]:
    return {
        "place": found.place,
        "digest": found.ref.digest.hex(),
        "origin": found.origin.value,
        "objects": len(found.members),
        "bytes": size,
        "stored_bytes": found.stored_bytes,
        "bundles": [
            {"digest": one.name.hex(), "stored_bytes": one.stored, "objects": len(one.members)}
            for one in found.bundles
        ],
    }


def _lines(name: str, report: profiles.ProfileReport) -> list[str]:
    beyond = f"; {report.left_out} more left out: too large for a start" if report.left_out else ""
    news = "" if report.changed else ": up to date"
    return [
        f"{report.place}: {report.objects} objects in {report.bundles} bundles of "
        f"{report.stored_bytes} bytes{beyond}",
        f"{name} revision {report.revision.number}{news}",
    ]
