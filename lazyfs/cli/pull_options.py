"""The options of `lazyfs run` about images that no mount has."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lazyfs.cli.options import Option

if TYPE_CHECKING:
    from lazyfs.runtimes.find_image import FoundImage

PULL_OPTIONS = (
    Option(
        ("--pull",),
        "pull",
        "When to pull an image that no mount has: if it is not kept (the default), to see if it has changed, "
        "or never.",
        choices=("missing", "always", "never"),
        default="missing",
    ),
    Option(("--no-pull",), "no_pull", "The same as --pull never.", is_flag=True),
    Option(
        ("--platform",), "platform", "Which of an index's images: os/architecture[/variant] [this machine's]."
    ),
    Option(
        ("--username",), "username", "Account at the registry; the password comes from one of the next two."
    ),
    Option(("--password-file",), "password_file", "File that holds the password.", metavar="FILE"),
    Option(
        ("--password-fd",),
        "password_fd",
        "Open descriptor to read the password from.",
        metavar="N",
        kind=int,
        least=0,
    ),
    Option(
        ("--authfile",), "authfile", "File of accounts, instead of podman's and docker's.", metavar="FILE"
    ),
    Option(("--plain-http",), "plain_http", "The registry speaks HTTP without TLS.", is_flag=True),
)
"""The options. A command passes their values to `pull_function`."""


def pull_function(wishes: dict[str, Any]) -> "Callable[[str], FoundImage] | None":
    """Returns a function that pulls an image to this machine; None if the options forbid all pulls. `wishes`
    maps the names of options to their values; the options in PULL_OPTIONS are removed from it. The modules
    for pulling are only imported when the returned function is called."""
    registry = {name: wishes.pop(name) for name in (option.name for option in PULL_OPTIONS)}
    if registry["no_pull"] or registry["pull"] == "never":
        return None

    def pull(source: str) -> "FoundImage":
        from lazyfs.cli.registry_options import image_options
        from lazyfs.cli.say import say
        from lazyfs.core.byte_size import parse_size
        from lazyfs.daemon.cache_directory import default_cache
        from lazyfs.pulled.image_store import ImageStore
        from lazyfs.pulled.pull import Pull
        from lazyfs.runtimes.find_image import FoundImage
        from lazyfs.runtimes.settings import read_settings

        settings = read_settings()
        of_the_site = settings.image_store and f"{settings.image_store}/{os.geteuid()}"
        directory = of_the_site or f"{default_cache()}/images"
        pulling = Pull(
            ImageStore(directory, parse_size(settings.image_limit, "image_limit")),
            image_options(registry, allow_public=True),
            lambda line: say(f"lazyfs: {line}", err=True),
            always=registry["pull"] == "always",
        )
        found = pulling(source)
        return FoundImage(found.root, found.metadata, found.root)

    return pull
