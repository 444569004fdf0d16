"""Makes click's options from `options.Option`."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from lazyfs.cli.options import Option


def with_options(options: Sequence[Option]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that adds the options to a click command."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = _decorator(option)(command)
        return command

    return decorate


def _decorator(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if option.is_flag:
        return click.option(*option.flags, option.name, is_flag=True, help=option.help)
    return click.option(
        *option.flags,
        option.name,
        metavar=option.metavar,
        multiple=option.multiple,
        type=_type(option),
        default=option.default,
        help=option.help,
    )


def _type(option: Option) -> Any:
    if option.least is not None:
        return click.IntRange(option.least)
    return click.Choice(option.choices) if option.choices else option.kind
