import os

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Bind, parse_bind


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
