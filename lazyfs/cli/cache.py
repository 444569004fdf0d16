"""`lazyfs cache`: what the node's cache holds, and what an operator does to it while it is in use."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import click

from lazyfs.cli.tls_options import tls_options
from lazyfs.core.errors import LazyfsError, UsageError


@click.group("cache")
@click.option("--cache", "directory", metavar="DIR", help="The cache directory that mounts were given.")
@click.pass_context
def command(context: click.Context, directory: str | None) -> None:
    """Look into the cache of this machine, pin, evict, verify, resize; mounts go on meanwhile.

    \b
    Example:
      lazyfs cache pin /cvmfs/unpacked/library/alpine:3.10.2
      lazyfs cache resize 20G
    """
    context.obj = directory


@contextmanager
def _opened(directory: str | None) -> Iterator[Any]:
    """The cache, as one more process that has it open; its errors in the family of this program."""
    from lazyfs.daemon.settings import default_cache
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
    """Limit, use, pins. (Hits and misses are each mount's: lazyfs status.)"""
    import msgspec

    with _opened(directory) as cache:
        stats = cache.stats()
        sets = {os.fsdecode(label): len(keys) for label, keys in cache.kept().items()}
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(stats) | {"directory": cache.root, "pin_sets": sets}))
            return
        click.echo(f"{cache.root}: {stats.state}")
    click.echo(f"  {_size(stats.charged)} of {_size(stats.limit)} in {stats.entries} objects, index included")
    click.echo(f"  {_size(stats.pinned)} pinned, {_size(stats.index)} index")
    click.echo(f"  {stats.evictions} evictions by {stats.policy}")
    for label, count in sets.items():
        click.echo(f"  pinned: {label} ({count} objects)")


@command.command("list")
@click.option("--by", type=click.Choice(["age", "image"]), default="age", help="How to order or group them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_(directory: str | None, by: str, as_json: bool) -> None:
    """What is in the cache: objects, the least recently used first, or how much of each image is here."""
    with _opened(directory) as cache:
        rows = _by_age(cache) if by == "age" else _by_image(cache)
        for row in rows:
            click.echo(json.dumps(row) if as_json else "  ".join(str(value) for value in row.values()))


def _by_age(cache: Any) -> Iterator[dict[str, Any]]:
    now = time.time()
    for key, entry in sorted(cache.entries(), key=lambda item: item[1].tick):
        age = max(now - entry.tick / 1e6, 0)
        yield {"object": key.hex(), "size": entry.size, "age": round(age), "pins": entry.pins}


def _by_image(cache: Any) -> Iterator[dict[str, Any]]:
    """Of every repository that was ever mounted with this cache, as far as its catalogs are here."""
    from lazyfs.client.private_cache import cache_key
    from lazyfs.client.trust import persisted_revisions
    from lazyfs.core import reach

    here = {key for key, _ in cache.entries()}

    for name, root, own in persisted_revisions.revisions(os.path.join(os.path.dirname(cache.root), "state")):
        namespace = own if cache_key(own, root.digest) in here else b""

        def read(ref: Any, namespace: bytes = namespace) -> bytes | None:
            key = cache_key(namespace, ref.digest)
            plain: bytes | None = cache.get(key) if key in here else None
            return plain if plain is not None and len(plain) == ref.size else None

        known: dict[Any, tuple[int, int]] = {}  # tags of one image, or images that name one tree
        for image in reach.images(root, read):
            if image.ref not in known:
                found = reach.walk([image], read)
                sizes = {cache_key(namespace, one.ref.digest): one.ref.size for one in found}
                held = sum(size for key, size in sizes.items() if key in here)
                known[image.ref] = held, sum(sizes.values())
            held, total = known[image.ref]
            if held:
                path = os.path.join(name, os.fsdecode(image.path))
                yield {"image": path, "here": held, "known": total}


@command.command("pin")
@click.argument("path")
@click.option("--proxy", metavar="CHAIN", help="The way to the origin, as for lazyfs mount.")
@tls_options
@click.pass_obj
def pin(directory: str | None, /, path: str, proxy: str | None, **tls_files: str | None) -> None:
    """Bring PATH, an image or anything else in a mount, here whole, and keep it until `unpin`."""
    from lazyfs.client.download import Downloader
    from lazyfs.client.private_cache import PrivateCache, cache_key
    from lazyfs.core import reach
    from lazyfs.transport.fetcher import never_cancelled
    from lazyfs.transport.open import open_fetcher
    from lazyfs.transport.tls import Tls, TlsFiles

    place = _place(path)
    files = TlsFiles(**tls_files)
    tls = Tls(files) if files else None
    with (
        _opened(directory or place.cache) as cache,
        closing(open_fetcher(place.url, proxy, tls=tls)) as fetcher,
    ):
        downloader = Downloader(fetcher, PrivateCache(cache, place.namespace) if place.namespace else cache)

        def bring(ref: Any) -> bytes:
            return downloader.download(ref, time.monotonic() + 60, never_cancelled)

        found = reach.objects_at(place.root, place.inside, bring)
        refs = {cache_key(place.namespace, reached.ref.digest): reached.ref for reached in found}
        cache.keep(place.label, {key: ref.size for key, ref in refs.items()})
        _all(bring, list(refs.values()))
        missing = sum(cache.size(key) is None for key in refs)
    if missing:
        raise LazyfsError(f"{path}: {missing} of {len(refs)} objects were not admitted; run it again")
    total = sum(ref.size for ref in refs.values())
    click.echo(f"pinned {os.fsdecode(place.label)}: {len(refs)} objects, {_size(total)}")


def _all(bring: Callable[[Any], bytes], refs: list[Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(bring, refs):
            pass


class _Place(NamedTuple):
    """Where a path in a mount leads."""

    url: str
    root: Any
    """Reference of the repository's root catalog."""
    inside: bytes
    """The path below the repository's root, links followed."""
    label: bytes
    """The path as the operator knows it, below the mount point."""
    cache: str
    """The directory that the mount was given."""
    namespace: bytes
    """Of the repository's objects in the cache, if it is private."""


def _place(path: str) -> _Place:
    from lazyfs.core.digest import Digest, ObjectRef
    from lazyfs.daemon import control
    from lazyfs.system import mountpoint as points
    from lazyfs.system.paths_in_mounts import resolve_among_mounts

    tops = [mount.mountpoint for mount in points.mounts() if mount.fstype == points.FSTYPE]
    try:
        real, top = resolve_among_mounts(path, tops)
    except OSError:
        raise UsageError(f"{path}: there is no such file or directory") from None
    if top is None:
        raise UsageError(f"{path} lies in no mount of lazyfs; lazyfs status lists those there are")
    found = control.ask(top, {"do": "status"})
    below = os.path.relpath(real, top)
    name, _, inside = below.partition("/")
    repository = found["repositories"].get(name)
    if repository is None:  # the repository is the mount's root, not a folder of it
        (repository,) = found["repositories"].values()
        inside = "" if below == "." else below
    return _Place(
        url=repository["url"],
        root=ObjectRef(Digest(bytes.fromhex(repository["root"])), repository["root_size"]),
        inside=os.fsencode(inside),
        label=os.fsencode(os.path.relpath(os.path.abspath(path), top))[-120:],
        cache=os.path.dirname(found["cache"]["directory"]),
        namespace=repository["namespace"].encode(),
    )


@command.command("unpin")
@click.argument("label")
@click.pass_obj
def unpin(directory: str | None, label: str) -> None:
    """Let go of what `pin` kept; LABEL as status shows it. It stays until its space is wanted."""
    with _opened(directory) as cache:
        if os.fsencode(label) not in cache.kept():
            raise UsageError(f"{label} is not pinned; lazyfs cache status lists what is")
        click.echo(f"unpinned {label}: {cache.drop(os.fsencode(label))} objects")


@command.command("evict")
@click.argument("size")
@click.pass_obj
def evict(directory: str | None, size: str) -> None:
    """Evict SIZE (like 2G, or `all`) of what was used least recently and is not pinned."""
    from lazyfs.daemon.settings import size as parse

    with _opened(directory) as cache:
        wanted = cache.stats().charged if size == "all" else parse(size, "SIZE")
        click.echo(f"evicted {_size(cache.evict(wanted))}")


@command.command("verify")
@click.pass_obj
def verify(directory: str | None) -> None:
    """Read and check everything; evict what is damaged. Exits 1 if something was."""
    with _opened(directory) as cache:
        found = cache.verify()
    click.echo(f"{found.values} objects, {_size(found.bytes)} are right")
    if found.damaged or found.orphans or found.missing:
        raise LazyfsError(
            f"cache: {found.damaged} damaged objects, {found.orphans} files without an entry and "
            f"{found.missing} entries without a file; all of them are gone now"
        )


@command.command("resize")
@click.argument("limit")
@click.pass_obj
def resize(directory: str | None, limit: str) -> None:
    """Set the limit (like 20G) for all mounts, until the cache is opened anew; what is over it is evicted."""
    from lazyfs.daemon.settings import size as parse

    with _opened(directory) as cache:
        cache.resize(parse(limit, "LIMIT"))
        stats = cache.stats()
    click.echo(f"limit {_size(stats.limit)}, {_size(stats.charged)} used")


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
