"""The options of every command that reads images."""

import platform as host
from collections.abc import Callable
from typing import Any

import click

from lazyfs.core.oci.platform import parse_platform
from lazyfs.images.registry.credentials import Asked
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


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command takes them as `**registry` and passes them to `image_options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def image_options(registry: dict[str, Any], *, allow_public: bool) -> ImageOptions:
    """Returns the values of the options. Raises UsageError."""
    return ImageOptions(
        platform=parse_platform(registry["platform"] or host.machine()),
        platform_asked=registry["platform"] is not None,
        asked=Asked(
            registry["username"], registry["password_file"], registry["password_fd"], registry["authfile"]
        ),
        plain_http=registry["plain_http"],
        allow_public=allow_public,
    )
