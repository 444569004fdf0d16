"""Prints all text for people. Each line is escaped, because strangers choose the names in it."""

import io
import json
from typing import Any

import click

from lazyfs.core.printable import escaped, escaped_json


def say(*lines: str, err: bool = False) -> None:
    """Prints lines; a line feed within a line is shown as an escape. `err`: True to print on standard
    error."""
    for line in lines:
        click.echo(escaped(line), err=err)


def say_json(value: Any, *, indent: int | None = None, err: bool = False) -> None:
    """Prints a value as JSON: on one line, or with `indent` on several lines, each level indented by so many
    spaces."""
    import msgspec  # imported only here: it takes 10 ms, and commands without JSON do without

    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=indent)
    click.echo(escaped_json(text), err=err)


def say_refusal(error: click.ClickException) -> None:
    """Prints click's message about a command line that it refuses."""
    shown = io.StringIO()
    error.show(shown)
    say(*shown.getvalue().removesuffix("\n").split("\n"), err=True)
