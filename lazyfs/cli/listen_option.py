"""The option of the commands that serve HTTP."""

from collections.abc import Callable
from typing import Any

import click


def listen_option(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that adds `--listen`; by default the command listens on this machine alone, at
    `port`."""
    return click.option(
        "--listen",
        default=f"127.0.0.1:{port}",
        show_default=True,
        metavar="HOST:PORT",
        help="Address; port 0 takes any free one.",
    )
