"""`lazyfs prefetch`: fetches the objects of an image that the cache of a mount does not have."""

import time
from typing import TYPE_CHECKING, Any

import click

from lazyfs.cli.say import say, say_json
from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import LazyfsError, UsageError

if TYPE_CHECKING:
    from lazyfs.cli.progress_bar import ProgressBar
    from lazyfs.system.mount_table import Mount

LOOK = 0.25
"""Seconds between two queries of the daemon's progress."""
BEGIN_SECONDS = 60.0
"""The longest time, in seconds, to wait for the daemon to find the image: it may have to fetch catalogs."""


@click.command("prefetch")
@click.argument("image")
@click.option(
    "--mount", "mountpoint", metavar="DIR", help="The mount to use; by default the one that has IMAGE."
)
@click.option(
    "--limit-rate", metavar="SIZE", help="Most bytes of content a second, e.g. 10M [default: no limit]."
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Only what the image's profile lists for this program; all: for any program.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the end as JSON.")
def command(
    image: str, mountpoint: str | None, limit_rate: str | None, profile: str | None, as_json: bool
) -> int:
    """Fetch all of IMAGE, or with --profile what programs read at their start, into the cache of the mount.

    IMAGE is a name or path as for `lazyfs run`. Reads of programs go first, and the prefetch stays within the
    mount's --prefetch-share. If IMAGE is already being prefetched, that goes on, at its own rate. Objects
    that were fetched stay: a prefetch that was stopped goes on where it was. Exits 1 if something is missing
    in the end.

    \b
    Example:
      lazyfs prefetch registry.example/physics/analysis:1.2 --limit-rate 10M
    """
    from lazyfs.cli.progress_bar import ProgressBar
    from lazyfs.daemon import control_client

    rate = parse_size(limit_rate, "--limit-rate") if limit_rate is not None else None
    if rate == 0:
        raise UsageError("--limit-rate 0 would never end: leave it out for no limit")
    mount, path = _place(image, mountpoint)
    request = {"do": "prefetch", "path": path, "rate": rate, "profile": profile}
    began = control_client.ask(mount, request, BEGIN_SECONDS).fields
    job = {name: began[name] for name in ("repository", "image")}
    fields = began
    with ProgressBar(image, enabled=not as_json) as bar:
        try:
            while fields["state"] in ("listing", "fetching"):
                _show(bar, fields)
                time.sleep(LOOK)
                fields = control_client.ask(mount, {"do": "prefetch-progress"} | job).fields
        except KeyboardInterrupt:
            control_client.ask(mount, {"do": "prefetch-stop"} | job)
            raise
    return _say_end(image, job | fields, as_json=as_json)


def _place(image: str, mountpoint: str | None) -> "tuple[Mount, str]":
    """Returns (the mount that has the image, the image's path below the mount point). Raises UsageError."""
    from lazyfs.daemon.control_client import mounted_at
    from lazyfs.runtimes.find_image import find, node_mounts, sort_mounts

    if mountpoint is not None:
        given = mounted_at(mountpoint)
        node = sort_mounts([given], lambda _: True)
    else:
        node = node_mounts()
    root = find(image, node).root
    for place in (*node.searched, *node.foreign):
        if root.startswith(place.rstrip("/") + "/"):
            return mounted_at(place), root[len(place.rstrip("/")) + 1 :]
    raise UsageError(f"{image}: {root} is in no mount of lazyfs")


def _show(bar: "ProgressBar", fields: dict[str, Any]) -> None:
    here, size = fields["here_bytes"], fields["bytes"]
    if fields["state"] == "listing":
        bar.show(0, 0, f"{fields['objects']} objects found")
    else:
        bar.show(here, size, f"{shown_size(here)} of {shown_size(size)}")


def _say_end(image: str, fields: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        say_json({name: value for name, value in fields.items() if name != "ok"})
    elif fields["state"] == "done":
        say(
            f"{image}: {fields['objects']} objects, {shown_size(fields['bytes'])}, all here; "
            f"{shown_size(fields['fetched_bytes'])} fetched"
        )
    if fields["state"] == "done":
        return 0
    if not as_json:
        reason = fields["problem"] or "stopped"
        raise LazyfsError(f"{image}: {reason}; what has come stays, and the next prefetch goes on from there")
    return 1
