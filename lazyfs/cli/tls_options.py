"""Options that say whom to believe over https, and who this node is; alike for all commands."""

from collections.abc import Callable
from typing import Any

import click


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--ca`, `--client-cert` and `--client-key`."""
    for option in (
        click.option(
            "--client-key", metavar="FILE", help="The key of --client-cert, if it is not in the same file."
        ),
        click.option(
            "--client-cert", metavar="FILE", help="Certificate (PEM) that says over https who this node is."
        ),
        click.option(
            "--ca", metavar="FILE", help="CAs (PEM) to believe over https, instead of the system's."
        ),
    ):
        command = option(command)
    return command
