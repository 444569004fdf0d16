"""lazyfs's fast option parser gives the same result as click, for every command line that it accepts."""

from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.cli import mount_program, run_program
from lazyfs.cli.mount import command as mount
from lazyfs.cli.options import Option, read_quickly
from lazyfs.cli.run import command as run
from tests.support.counts import count

RUN, MOUNT = run_program.OPTIONS, mount_program.OPTIONS


def words(options: tuple[Option, ...]) -> st.SearchStrategy[str]:
    """Returns a strategy that draws words of command lines with these options."""
    flags = st.sampled_from(sorted(flag for option in options for flag in option.flags))
    usual = [
        "app:1",
        "/image",
        "",
        "-",
        "--",
        "x=y",
        "ls",
        "host",
        "none",
        "wlcg",
        "-x",
        "-Bx",
        "é",
        "1",
        "2.5",
    ]
    values = ["", "a", "host", "wlcg", "-x", "a=b", "-1", "3", "0.5", "1e3", "nan", "auto", "direct"]
    return st.one_of(
        flags,
        st.sampled_from(usual),
        st.builds("{}={}".format, flags, st.sampled_from(values)),
        st.text(max_size=4),
    )


def of_run(line: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Returns the arguments and options that click reads from a command line. Raises click's errors."""
    values = dict(run.make_context("run", list(line)).params)
    image, arguments = values.pop("image"), values.pop("arguments")
    return ([] if image is None else [image]) + list(arguments), values


def of_mount(line: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Works as `of_run`, for `lazyfs mount`."""
    values = dict(mount.make_context("mount", list(line)).params)
    return list(values.pop("places")), values


@settings(max_examples=count(300, 20_000))
@given(st.lists(words(RUN), max_size=7))
def test_both_readers_read_the_same_start(line: list[str]) -> None:
    quick = read_quickly(RUN, line)
    if quick is not None:
        assert quick == of_run(line)


@settings(max_examples=count(300, 20_000))
@given(st.lists(words(MOUNT), max_size=7))
def test_both_readers_read_the_same_mount(line: list[str]) -> None:
    quick = read_quickly(MOUNT, line)
    if quick is not None:
        arguments, values = of_mount(line)
        assert quick[0] == arguments
        assert repr(sorted(quick[1].items())) == repr(sorted(values.items()))  # repr, because NaN is not NaN


@pytest.mark.parametrize(
    "line",
    [
        ["app:1", "--", "ls", "-l", "--bind", "--"],
        ["-B", "/a:/b", "app:1", "--bind=/c", "--env", "A=-x", "--json", "--network", "none", "ls"],
        ["--env=-x", "app:1", "ls"],
        ["--pids", "7", "app:1"],
    ],
)
def test_the_usual_starts_are_taken_quickly(line: list[str]) -> None:
    assert read_quickly(RUN, line) == of_run(line)


@pytest.mark.parametrize(
    "line",
    [
        ["http://o/r", "/mnt", "--proxy", "http://p:3128;DIRECT", "--cache-limit", "8G", "--suid"],
        ["--config", "site.toml", "/cvmfs", "--foreground"],
        ["--refresh=2.5", "--uid", "0", "--fuse", "direct", "http://o/r", "/mnt"],
    ],
)
def test_the_usual_mounts_are_taken_quickly(line: list[str]) -> None:
    assert read_quickly(MOUNT, line) == of_mount(line)


@pytest.mark.parametrize(
    "line", [["--help"], ["--bin", "/a", "app"], ["-B"], ["-B", "-x", "app"], ["--json=1"], ["--network=x"]]
)
def test_other_starts_are_left_to_click(line: list[str]) -> None:
    assert read_quickly(RUN, line) is None
    try:
        of_run(line)
    except (click.ClickException, click.exceptions.Exit):
        pass


@pytest.mark.parametrize(
    "line", [["--help"], ["--cach", "x"], ["--uid", "x"], ["--refresh", "-1"], ["--fuse=x"], ["--suid=1"]]
)
def test_other_mounts_are_left_to_click(line: list[str]) -> None:
    assert read_quickly(MOUNT, line) is None
