"""Command line options made from the settings of a mount."""

from collections.abc import Callable
from typing import Any

import click

from lazyfs.daemon.mount_options import MOUNT_OPTIONS, MountOption


def setting_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that adds an option for each setting of these names, or for every setting if no
    name is given."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(MOUNT_OPTIONS):
            if not names or option.field in names:
                command = _click_option(option)(command)
        return command

    return add


def _click_option(option: MountOption) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = option.kind is bool
    return click.option(
        f"--{option.name}",
        option.field,
        type=None if flag else click.Choice(option.choices) if option.choices else option.kind,
        is_flag=flag,
        default=None,
        metavar=option.metavar or None,
        envvar=option.environment or None,
        help=f"{option.help_text} [{option.default}]",
    )
