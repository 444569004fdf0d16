import os
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import LONGEST, Bind, Launch, most_bytes, parse_bind
from lazyfs.runtimes.protocol import RuntimePlan, nul_separated


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/data", Bind("/data", "/data")),
        ("/data:/srv", Bind("/data", "/srv")),
        ("/data:/srv:ro", Bind("/data", "/srv", read_only=True)),
        ("/data:/srv:rw", Bind("/data", "/srv")),
        ("/data::ro", Bind("/data", "/data", read_only=True)),
        ("/data:/srv/../x/", Bind("/data", "/x")),
    ],
)
def test_binds_are_written_as_in_every_container_tool(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


def test_a_relative_source_is_taken_from_the_working_directory() -> None:
    assert parse_bind("here:/srv") == Bind(os.path.join(os.getcwd(), "here"), "/srv")


@pytest.mark.parametrize("text", ["", ":/srv", "/a:b", "/a:/b:rx", "/a:/b:ro:z", "/a:/"])
def test_a_bind_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"^bind "):
        parse_bind(text)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"root": "/a\0--bind"}, "image: .* NUL"),
        ({"command": ("sh", "a\0--bind")}, "argument 1 of the command: .* NUL"),
        ({"command": ("sh\0",)}, "argument 0 of the command: .* NUL"),
        ({"command": ("sh", "\ud800")}, "argument 1 of the command: .* cannot be handed"),
        ({"command": ()}, "the command is empty"),
        ({"command": ("",)}, "the command is empty"),
        ({"environment": {"X": "a\0--bind\0/home\0/tmp"}}, "variable 'X': .* NUL"),
        ({"environment": {"X\0--bind": "1"}}, "name of a variable: .* NUL"),
        ({"environment": {"A=B": "1"}}, "cannot be the name"),
        ({"environment": {"": "1"}}, "cannot be the name"),
        ({"workdir": "/tmp\0--bind\0/\0/x"}, "working directory: .* NUL"),
        ({"user": (4294967295, 1000)}, "user: 4294967295 is no user or group"),
        ({"user": (1000, 4294967295)}, "user: 4294967295 is no user or group"),
        ({"user": (-1, 1000)}, "user: -1 is no user or group"),
        ({"user": (1 << 32, 0)}, "user: 4294967296 is no user or group"),
        ({"workdir": "relative"}, "working directory 'relative' must be an absolute path"),
    ],
)
def test_no_launch_has_text_that_a_runtime_could_take_for_an_option(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        Launch(**{"root": "/image", "command": ("sh",), **fields})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["hunter2\0", "hunter2\ud800", "hunter2" * LONGEST])
def test_no_message_repeats_the_value_of_a_variable(value: str) -> None:
    with pytest.raises(UsageError, match="variable 'TOKEN'") as caught:
        Launch("/image", ("sh",), {"TOKEN": value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("target", ["", "/", "//", "data", "/a/../b", "/a/", "/a\0b", "//a"])
def test_a_bind_made_in_python_goes_by_the_same_rules(target: str) -> None:
    with pytest.raises(UsageError, match="bind target"):
        Bind("/data", target)


def test_arguments_that_would_be_read_as_two_are_never_joined() -> None:
    assert nul_separated(["--setenv", "A", "x\ny", os.fsdecode(b"\xff")]) == b"--setenv\0A\0x\ny\0\xff\0"
    bad = ("a\0b",)
    for fields in ((bad, (), ()), ((), bad, ()), ((), (), bad)):
        with pytest.raises(UsageError, match="NUL"):
            RuntimePlan(*fields)


@given(values=st.lists(st.text(), max_size=4))
def test_every_launch_that_can_be_made_is_joined_as_it_was_written(values: list[str]) -> None:
    try:
        launch = Launch("/image", ("sh", *values), {f"V{i}": value for i, value in enumerate(values)})
    except UsageError:
        return
    arguments = [*launch.command, *launch.environment.values()]
    assert nul_separated(arguments).split(b"\0")[:-1] == [os.fsencode(argument) for argument in arguments]


def test_one_piece_is_as_long_as_linux_takes() -> None:
    """The kernel and Launch accept the longest argument and variable, and both refuse one byte more."""
    environment = {"X": "a" * (LONGEST - 2)}
    Launch("/image", ("true", "a" * LONGEST), environment)
    subprocess.run(["/bin/true", "a" * LONGEST], env=environment, check=True)
    for command, more in ((("true", "a" * (LONGEST + 1)), {}), (("true",), {"X": "a" * (LONGEST - 1)})):
        with pytest.raises(OSError, match="Argument list too long"):
            subprocess.run(["/bin/true", *command[1:]], env=more, check=False)
        with pytest.raises(UsageError, match=f"(argument 1|variable 'X').*: {LONGEST + 1} bytes, and Linux"):
            Launch("/image", command, more)


def test_all_pieces_together_are_as_long_as_linux_takes() -> None:
    piece = "a" * 991  # 1,000 bytes with the NUL and the pointer
    fitting = ("/bin/true", *[piece] * ((most_bytes() - 1000) // 1000))
    Launch("/image", fitting)
    subprocess.run(fitting, env={}, check=True)
    more = (*fitting, *[piece] * 40)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(more, env={}, check=False)
    with pytest.raises(UsageError, match=r"the command and its 0 variables take \d+ bytes.*ulimit -s"):
        Launch("/image", more)
