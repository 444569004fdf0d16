"""`lazyfs profile`: makes, shows and drops the lists of objects that starts of images read."""

import os
import sys
from contextlib import closing
from datetime import UTC, datetime

import click

from lazyfs.cli.profile_text import fields, file_bundle, held_in_lines, lines, shown_lines, shown_profile
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option, keys_option
from lazyfs.core.byte_size import parse_size
from lazyfs.core.errors import UsageError
from lazyfs.core.profile import Origin
from lazyfs.images import profiles
from lazyfs.images.profiles.hot_packs import Touched
from lazyfs.images.profiles.path_lists import find_listed, lists_inside, read_list
from lazyfs.images.profiles.published import profile_paths, published_profile
from lazyfs.repository.commit import read_revision
from lazyfs.repository.image_place import find_place
from lazyfs.repository.opened_repository import OpenedRepository, open_repository
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, open_store, reader

SHOWN_MISSING = 5
"""The largest number of missing paths of a list that are shown by name."""


@click.group("profile")
def command() -> None:
    """Make, show and drop profiles of images, for faster starts.

    A profile lists what starts of an image read. A mount fetches that in a few requests when the image is
    entered. A new profile replaces the image's old one, but keeps the lists that the old one has for other
    programs.

    \b
    Example:
      lazyfs profile make registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """


@command.command("make")
@click.argument("image")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.argument("store")
@click.option(
    "--program",
    metavar="PATH",
    default="",
    help="Program that was started [default: any program].",
)
@keys_option
@json_option
def make(
    image: str, traces: tuple[str, ...], store: str, program: str, keys: str | None, as_json: bool
) -> None:
    """Publish a profile of IMAGE made from one or more traces.

    A TRACE is written by `lazyfs mount --trace FILE` while a program starts from the image. Objects in a
    TRACE that belong to other images are passed over. A profile made from several traces lists all that any
    of them touched.

    \b
    Example:
      lazyfs mount http://origin.example/unpacked /mnt --trace start.trace
      lazyfs run registry.example/physics/analysis:1.2 -- python3 job.py
      lazyfs profile make registry.example/physics/analysis:1.2 start.trace /srv/unpacked
    """
    repository = open_repository(store, keys)
    _publish(repository, image, {program: profiles.read_traces(traces)}, Origin.RECORDED, as_json=as_json)


@command.command("record")
@click.argument("image")
@click.argument("store")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("-B", "--bind", "binds", multiple=True, metavar="SRC[:DST[:ro]]", help="As for lazyfs run.")
@click.option(
    "--network",
    type=click.Choice(["none", "host"]),
    default="none",
    show_default=True,
    help="No network, or the machine's.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86400),
    default=600,
    show_default=True,
    help="End the program after so long; what it has read by then counts.",
)
@click.option(
    "--memory", default="16G", show_default=True, metavar="SIZE", help="End it if it takes more than this."
)
@click.option("--url", default="", help="Mount the store from where it is served; needed for a bucket.")
@keys_option
@json_option
def record(
    image: str,
    store: str,
    program: tuple[str, ...],
    binds: tuple[str, ...],
    network: str,
    seconds: float,
    memory: str,
    url: str,
    keys: str | None,
    as_json: bool,
) -> None:
    """Start COMMAND (or the image's own) in IMAGE on a mount of its own, and publish a profile of its reads.

    The store is mounted below TMPDIR with an empty cache, and nothing of this user's environment and home is
    there. The program's output goes to standard error. If it fails, nothing is published.

    \b
    Example:
      lazyfs profile record registry.example/physics/analysis:1.2 /srv/unpacked -- python3 job.py
    """
    from lazyfs.sync.start_recorder import StartRecorder, source_to_mount

    repository = open_repository(store, keys)
    place = find_place(_tree(repository.store), image)
    bound = [f"--bind={os.path.join(os.getcwd(), one)}" for one in binds]
    where = os.path.abspath(store) if os.path.isdir(store) else store  # the mount runs in another directory
    options, output = [f"--network={network}", *bound], sys.stderr.fileno()
    limit = parse_size(memory, "--memory")
    where, trust = source_to_mount(where, repository.store, url)
    recorder = StartRecorder(where, seconds, limit, trust=trust, options=options, output=output)
    with closing(recorder):
        touched = profiles.read_traces(recorder.record(place, [program]))
    name = program[0] if program else ""
    _publish(repository, image, {name: touched}, Origin.RECORDED, as_json=as_json)


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
    bundles inside the image are taken. An absolute path starts at the image's root; if the image has no such
    file and the path begins with the image's own path in the repository, it starts at the repository's root.
    A relative path starts at the directory of --in; in a bundle inside the image, at the bundle's own
    directory. Links are followed; paths that the image lacks are passed over.

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
    _publish(repository, image, {"": found.touched}, Origin.IMPORTED, as_json=as_json)


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
    if as_json:
        say_json(shown_profile(found))
    else:
        say(*shown_lines(found))


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
    """Write the paths of the files that the profile of IMAGE lists, in the profile's order.

    `lazyfs profile import` reads the list again. Names with control characters, which a line cannot hold, are
    left out.

    \b
    Example:
      lazyfs profile export registry.example/app:1 /srv/unpacked -o start.paths
    """
    tree = _tree(open_store(store))
    paths = profile_paths(tree, published_profile(tree, image))
    held = held_in_lines(paths)
    if len(held) < len(paths):
        say(f"{image}: {len(paths) - len(held)} names left out, which a line cannot hold", err=True)
    listed = file_bundle(held) if kind == "cvmfs" else held
    if output is None:
        say(*listed)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in listed)
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
        say_json(fields(repository.name, report))
    else:
        say(*lines(repository.name, report))
