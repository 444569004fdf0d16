"""The options of `lazyfs run` about images that no mount has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lazyfs.cli.say import say

if TYPE_CHECKING:
    from lazyfs.runtimes.find_image import FoundImage

_OPTIONS = (
    click.option(
        "--pull",
        type=click.Choice(["missing", "always", "never"]),
        default="missing",
        help="When to pull an image that no mount has: if it is not kept (the default), to see if it has "
        "changed, or never.",
    ),
    click.option("--no-pull", is_flag=True, help="The same as --pull never."),
    click.option("--platform", help="Which image of an index: os/architecture[/variant] [this machine's]."),
    click.option("--username", help="Account at the registry; the password comes from one of the next two."),
    click.option("--password-file", metavar="FILE", help="File that holds the password."),
    click.option("--password-fd", metavar="N", type=int, help="Open descriptor to read the password from."),
    click.option("--authfile", metavar="FILE", help="File of accounts, instead of podman's and docker's."),
    click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS."),
)


def pull_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command takes them as `pull` and further names, and passes them to
    `pull_function`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


NAMES = (
    "pull",
    "no_pull",
    "platform",
    "username",
    "password_file",
    "password_fd",
    "authfile",
    "plain_http",
)


def pull_function(wishes: dict[str, Any]) -> "Callable[[str], FoundImage] | None":
    """Returns a function that brings an image to this machine; None if nothing may be pulled. Takes the
    options' values out of `wishes`. What pulling needs is imported when something is pulled."""
    registry = {name: wishes.pop(name) for name in NAMES}
    if registry["no_pull"] or registry["pull"] == "never":
        return None

    def pull(source: str) -> "FoundImage":
        from lazyfs.cli.registry_options import image_options
        from lazyfs.core.byte_size import parse_size
        from lazyfs.daemon.cache_directory import default_cache
        from lazyfs.pulled.image_store import ImageStore
        from lazyfs.pulled.pull import Pull
        from lazyfs.runtimes.find_image import FoundImage
        from lazyfs.runtimes.settings import read_settings

        settings = read_settings()
        directory = settings.image_store or f"{default_cache()}/images"
        pulling = Pull(
            ImageStore(directory, parse_size(settings.image_limit, "image_limit")),
            image_options(registry, allow_public=True),
            lambda line: say(f"lazyfs: {line}", err=True),
            always=registry["pull"] == "always",
        )
        found = pulling(source)
        return FoundImage(found.root, found.metadata, found.root)

    return pull
