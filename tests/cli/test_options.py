"""lazyfs's fast option parser gives the same result as click, for every command line that it accepts."""

from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.cli.options import read_quickly
from lazyfs.cli.run import command
from lazyfs.cli.run_program import OPTIONS
from tests.support.counts import count

FLAGS = sorted(flag for option in OPTIONS for flag in option.flags)
WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(
        ["app:1", "/image", "", "-", "--", "x=y", "ls", "host", "none", "wlcg", "-x", "-Bx", "é"]
    ),
    st.builds(
        "{}={}".format, st.sampled_from(FLAGS), st.sampled_from(["", "a", "host", "wlcg", "-x", "a=b"])
    ),
    st.text(max_size=4),
)


def of_click(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Returns the arguments and options that click reads from a command line. Raises click's errors."""
    values = dict(command.make_context("run", list(words)).params)
    image, arguments = values.pop("image"), values.pop("arguments")
    return ([] if image is None else [image]) + list(arguments), values


@settings(max_examples=count(300, 20_000), deadline=None)
@given(st.lists(WORDS, max_size=7))
def test_both_readers_read_the_same(words: list[str]) -> None:
    quick = read_quickly(OPTIONS, words)
    if quick is not None:
        assert quick == of_click(words)


@pytest.mark.parametrize(
    "words",
    [
        ["app:1", "--", "ls", "-l", "--bind", "--"],
        ["-B", "/a:/b", "app:1", "--bind=/c", "--env", "A=-x", "--json", "--network", "none", "ls"],
        ["--env=-x", "app:1", "ls"],
    ],
)
def test_the_usual_command_lines_are_taken_quickly(words: list[str]) -> None:
    assert read_quickly(OPTIONS, words) == of_click(words)


@pytest.mark.parametrize(
    "words", [["--help"], ["--bin", "/a", "app"], ["-B"], ["-B", "-x", "app"], ["--json=1"], ["--network=x"]]
)
def test_others_are_left_to_click(words: list[str]) -> None:
    assert read_quickly(OPTIONS, words) is None
    try:
        of_click(words)
    except (click.ClickException, click.exceptions.Exit):
        pass
