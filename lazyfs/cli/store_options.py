"""Options that are common to the commands that sign revisions."""

from collections.abc import Callable
from typing import Any

import click

keys_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--keys", metavar="DIR", help="Directory of the private keys [default: ~/.config/lazyfs/keys/NAME]."
)
json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object."
)
