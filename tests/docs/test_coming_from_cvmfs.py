"""Every setting, command and attribute that docs/coming-from-cvmfs.md names on lazyfs's side exists."""

import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

from lazyfs.daemon.settings import Settings
from lazyfs.vfs.entries import Repository
from lazyfs.vfs.operator_xattrs import get_xattr
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.cli.test_examples import parse
from tests.support.images import Objects, file, image, live, number

PAGE = Path(__file__).parents[2] / "docs/coming-from-cvmfs.md"
SETTINGS = {field.name for field in msgspec.structs.fields(Settings)}


def tables() -> dict[str, list[tuple[str, str]]]:
    """Returns heading -> the rows of the table below it, each as a pair: the cell about CVMFS, the cell about
    lazyfs."""
    found: dict[str, list[tuple[str, str]]] = {}
    for chapter in PAGE.read_text().split("\n## ")[1:]:
        heading, _, text = chapter.partition("\n")
        rows = [re.split(r" *(?<!\\)\| *", line) for line in text.splitlines() if line.startswith("|")]
        if rows:
            found[heading] = [(row[1], row[2]) for row in rows[2:]]
    return found


def names(heading: str) -> list[str]:
    """Returns the texts in backticks in the cells about lazyfs. Raises AssertionError if such a cell has no
    backticks and is not `none`."""
    found = []
    for theirs, ours in tables()[heading]:
        quoted = re.findall(r"`([^`]+)`", ours)
        assert quoted or ours == "none", f"{theirs}: {ours!r} is neither something of lazyfs's nor none"
        found += quoted
    return found


def test_the_settings_exist() -> None:
    named = names("Settings")
    assert len(named) > 20
    assert set(named) <= SETTINGS


@pytest.mark.parametrize("heading", ["Commands on a node", "Commands of a server"])
def test_the_commands_exist(heading: str) -> None:
    named = names(heading)
    assert len(named) > 12
    for line in named:
        words = shlex.split(line)
        assert words[0] == "lazyfs"
        try:
            parse(words[1:])
        except click.ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_the_attributes_answer() -> None:
    objects = Objects()
    root = live(objects, {"image": image(objects, {"f": file(objects, b"data")})})
    told = {"user.host": "http://origin.example", "user.proxy": "http://squid.example:3128"}
    tree = Tree(SlotTable())
    tree.show_repository(Repository("unpacked", objects, root.ref, 1, facts=lambda: told))
    at = number(tree, "image/f")
    named = names("Attributes")
    assert len(named) > 8
    for name in named:
        assert get_xattr(tree, at, name.encode()), name
