"""`lazyfs cache`: shows and changes the node's cache while mounts use it."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.cli.setting_options import setting_options
from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import LazyfsError, UsageError

if TYPE_CHECKING:
    from lazyfs.daemon.mounted_path import MountedPath
    from lazyfs_cache import Cache


@click.group("cache")
@click.option(
    "--cache",
    "directory",
    metavar="DIR",
    help="The cache directory that mounts were given "
    "[default: /var/cache/lazyfs for root, ~/.cache/lazyfs for others].",
)
@click.pass_context
def command(context: click.Context, directory: str | None) -> None:
    """Show the cache of this machine; pin, evict and verify its objects; change its limit. Mounts go on
    meanwhile.

    \b
    Example:
      lazyfs cache pin library/alpine:3.10.2
      lazyfs cache resize 20G
    """
    context.obj = directory


@contextmanager
def _opened(directory: str | None) -> "Iterator[Cache]":
    """Opens the cache, and closes it at the end of the `with` block; mounts go on using it meanwhile. Raises
    UsageError for errors of the cache."""
    from lazyfs.daemon.cache_directory import default_cache
    from lazyfs_cache import CacheError, open_cache

    try:
        with open_cache(os.path.join(directory or default_cache(), "objects"), None) as cache:
            yield cache
    except CacheError as error:
        raise UsageError(str(error)) from None


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="All figures, as JSON.")
@click.pass_obj
def status(directory: str | None, as_json: bool) -> None:
    """Show limit, use and pins. (`lazyfs status` shows the hits and misses of each mount.)"""
    import msgspec

    with _opened(directory) as cache:
        stats = cache.stats()
        sets = {os.fsdecode(label): len(keys) for label, keys in cache.kept().items()}
        if as_json:
            say_json(msgspec.to_builtins(stats) | {"directory": cache.root, "pin_sets": sets})
            return
        say(f"{cache.root}: {stats.state}")
    used = f"{shown_size(stats.charged)} of {shown_size(stats.limit)}"
    say(f"  {used} in {stats.entries} objects, index included")
    say(f"  {shown_size(stats.pinned)} pinned, {shown_size(stats.index)} index")
    say(f"  {stats.evictions} evictions by {stats.policy}")
    for label, count in sets.items():
        say(f"  pinned: {label} ({count} objects)")


@command.command("list")
@click.option(
    "--by", type=click.Choice(["age", "image"]), default="age", help="List objects by last use, or images."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_(directory: str | None, by: str, as_json: bool) -> None:
    """List the cached objects, the least recently used first; with --by image, how much of each image is
    cached."""
    from lazyfs.client import cache_contents

    with _opened(directory) as cache:
        if by == "age":
            rows: Iterator[dict[str, Any]] = (
                {"object": found.digest, "size": found.size, "age": found.age, "pins": found.pins}
                for found in cache_contents.objects_by_age(cache, time.time())
            )
        else:
            rows = (
                {"image": found.path, "here": found.held, "known": found.known}
                for found in cache_contents.images(cache, os.path.join(os.path.dirname(cache.root), "state"))
            )
        for row in rows:
            if as_json:
                say_json(row)
            else:
                say("  ".join(str(value) for value in row.values()))


@command.command("pin")
@click.argument("path")
@setting_options("proxy", "ca", "client_cert", "client_key")
@click.pass_obj
def pin(directory: str | None, /, path: str, proxy: str | None, **tls_files: str | None) -> None:
    """Fetch all of PATH (an image's name, or a path in a mount) and keep it in the cache until `unpin`."""
    from lazyfs.client import pinning
    from lazyfs.daemon.values_from_files import read_value
    from lazyfs.transport.open import open_fetcher
    from lazyfs.transport.tls import Tls
    from lazyfs.transport.tls_files import TlsFiles

    place = _located(path)
    proxy = read_value(proxy, "--proxy") if proxy and "://" in place.url else None
    files = TlsFiles(**tls_files)
    tls = Tls(files) if files else None
    with (
        _opened(directory or place.cache) as cache,
        closing(open_fetcher(place.url, proxy, tls=tls)) as fetcher,
    ):
        pinned = pinning.pin(cache, fetcher, place.root, place.inside, place.label, place.namespace)
    if pinned.missing:
        raise LazyfsError(
            f"{path}: {pinned.missing} of {pinned.objects} objects were not admitted; run it again"
        )
    size = shown_size(pinned.bytes)
    say(f"pinned {os.fsdecode(place.label)}: {pinned.objects} objects, {size}")


def _located(text: str) -> "MountedPath":
    """Returns the mounted repository, and the path in it, that a text names: by a path in a mount, or, if
    there is no such path, by an image's name."""
    from lazyfs.daemon.mounted_path import NoSuchPath, locate
    from lazyfs.runtimes.find_image import find, is_path, node_mounts

    try:
        return locate(text)
    except NoSuchPath:
        if is_path(text):
            raise
        return locate(find(text, node_mounts()).path)


@command.command("unpin")
@click.argument("label")
@click.pass_obj
def unpin(directory: str | None, label: str) -> None:
    """Undo the pin that `cache status` shows as LABEL; its objects stay until their space is needed."""
    with _opened(directory) as cache:
        if os.fsencode(label) not in cache.kept():
            raise UsageError(f"{label} is not pinned; lazyfs cache status lists the pins")
        say(f"unpinned {label}: {cache.drop(os.fsencode(label))} objects")


@command.command("evict")
@click.argument("size")
@click.pass_obj
def evict(directory: str | None, size: str) -> None:
    """Evict SIZE (like 2G, or `all`), the least recently used objects first; pinned ones stay."""
    with _opened(directory) as cache:
        wanted = cache.stats().charged if size == "all" else parse_size(size, "SIZE")
        say(f"evicted {shown_size(cache.evict(wanted))}")


@command.command("verify")
@click.pass_obj
def verify(directory: str | None) -> None:
    """Read and check all objects; evict the damaged ones. Exits 1 if there were any."""
    with _opened(directory) as cache:
        found = cache.verify()
    say(f"{found.values} objects, {shown_size(found.bytes)} are right")
    if found.damaged or found.orphans or found.missing:
        raise LazyfsError(
            f"cache: {found.damaged} damaged objects, {found.orphans} files without an entry and "
            f"{found.missing} entries without a file; all of them are gone now"
        )


@command.command("resize")
@click.argument("limit")
@click.pass_obj
def resize(directory: str | None, limit: str) -> None:
    """Set the limit (like 20G) for all mounts, until the cache is opened anew. Evicts what exceeds it."""
    with _opened(directory) as cache:
        cache.resize(parse_size(limit, "LIMIT"))
        stats = cache.stats()
    say(f"limit {shown_size(stats.limit)}, {shown_size(stats.charged)} used")
