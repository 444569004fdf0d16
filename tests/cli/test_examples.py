"""Click accepts every example in a command's --help, and every `lazyfs` line in the documents."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lazyfs.cli.main import COMMANDS, lazyfs

ROOT = Path(__file__).parents[2]
PLACEHOLDERS = re.compile(r"\[|\||\.\.\.")
"""Matches the marks by which a synopsis is told from a complete command line."""


def commands() -> Iterator[click.Command]:
    """Yields every command, including the subcommands of groups."""
    context = click.Context(lazyfs)
    yield lazyfs
    for name in COMMANDS:
        found = lazyfs.get_command(context, name)
        assert found is not None
        yield found
        if isinstance(found, click.Group):
            yield from found.commands.values()


def examples_in_help() -> Iterator[str]:
    for command in commands():
        yield from lines_of(command.help or "")


def examples_in_documents() -> Iterator[str]:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        yield from lines_of(path.read_text())


def lines_of(text: str) -> Iterator[str]:
    """Yields the command lines in a text, without comments. One line of the text may hold several, for
    example in a pipe."""
    for line in text.splitlines():
        found = re.match(r"(?: {4,}|  )(?:\$ |# )?(?:[\w ./:-]+ \| )?(?:sudo )?(lazyfs .*)", line)
        if found:
            yield from re.split(r"\s{2,}(?=lazyfs )", found[1].partition(" #")[0].rstrip())


def parse(words: list[str]) -> None:
    """Lets click parse a command line without running it. Raises click's errors."""
    command: click.Command = lazyfs
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(command.name or "lazyfs", list(words), parent=context)
        name, found, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None, name
        command = found
    command.make_context(command.name or "", list(words), parent=context)


HELP, DOCUMENTS = sorted(set(examples_in_help())), sorted(set(examples_in_documents()))


def test_examples_are_found() -> None:
    assert len(HELP) > 20, HELP
    assert len(DOCUMENTS) > 15, DOCUMENTS


@pytest.mark.parametrize("line", sorted({*HELP, *DOCUMENTS}))
def test_an_example_is_a_command_line(line: str) -> None:
    if PLACEHOLDERS.search(line):
        name = shlex.split(line.partition("[")[0])[1]
        assert name in COMMANDS
        return
    parse(shlex.split(line)[1:])


@pytest.mark.parametrize("line", ["lazyfs run --mount /mnt app:1", "lazyfs mont x y", "lazyfs repo init"])
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    with pytest.raises(click.ClickException):
        parse(shlex.split(line)[1:])
