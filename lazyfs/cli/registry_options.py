"""The options of all commands that read images."""

import platform as host
from collections.abc import Callable
from typing import Any

import click

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.platform import parse_platform
from lazyfs.core.oci.start_files import bind_point
from lazyfs.images.registry.accounts import Asked
from lazyfs.images.sources.open import ImageOptions

_OPTIONS = [
    click.option(
        "--platform", help="Which image of an index: os/architecture[/variant] [default: this host's]."
    ),
    click.option("--username", help="Account at the registry; the password comes from one of the next two."),
    click.option("--password-file", metavar="FILE", help="File that holds the password."),
    click.option("--password-fd", metavar="N", type=int, help="Open descriptor to read the password from."),
    click.option("--authfile", metavar="FILE", help="File of accounts, instead of podman's and docker's."),
    click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS."),
]


bind_point_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--bind-point",
    "bind_points",
    multiple=True,
    metavar="PATH",
    help="Directory to add to images that lack it, for something to be bound over; may be repeated.",
)


def read_bind_points(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the values of `bind_point_option` (directories to be added to images), checked and sorted.
    Raises UsageError."""
    found = set()
    for path in paths:
        try:
            found.add(bind_point(path))
        except ValueError as error:
            raise UsageError(f"--bind-point {path!r}: {error}: give an absolute path like /afs") from None
    return tuple(sorted(found))


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that adds the options. The command takes them as `**registry` and passes them to
    `image_options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def image_options(registry: dict[str, Any], *, allow_public: bool) -> ImageOptions:
    """Returns the ImageOptions for the values of the options. Raises UsageError."""
    return ImageOptions(
        platform=parse_platform(registry["platform"] or host.machine()),
        platform_asked=registry["platform"] is not None,
        asked=Asked(
            registry["username"], registry["password_file"], registry["password_fd"], registry["authfile"]
        ),
        plain_http=registry["plain_http"],
        allow_public=allow_public,
    )
