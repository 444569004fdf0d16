"""The start options in an image's configuration: the parser reads them, and refuses text that no program can
be given."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError
from lazyfs.core.foreign_text import check_text
from lazyfs.core.oci.run_config import RunConfig, parse_run_config


def parsed(**fields: Any) -> RunConfig:
    return parse_run_config(json.dumps({"config": fields}).encode(), "image/config.json")


def test_lines_and_tabs_are_part_of_scripts_and_functions() -> None:
    script = ["sh", "-c", "if true\n\tthen echo\r\nfi"]
    run = parsed(Cmd=script, Env=["BASH_FUNC_f%%=() {\n :\n}", "LANG=é", "EQUALS=a=b"])
    assert run.cmd == script
    assert run.environment == {"BASH_FUNC_f%%": "() {\n :\n}", "LANG": "é", "EQUALS": "a=b"}


def test_what_is_null_or_has_no_name_is_left_out() -> None:
    assert parsed(Env=["=x", "alone", "A=1", "A=2"], WorkingDir=None, User=None).environment == {"A": "2"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"Env": ["A=1", "X=a\0--bind\0/home\0/tmp"]}, r"Env\[1\].*NULL|Env\[1\].*U\+0000"),
        ({"Env": ["A\0--ro-bind\0/\0/srv=1"]}, r"Env\[0\].*U\+0000"),
        ({"Env": ["A\nB=1"]}, r"the name of a variable in Env.*U\+000A"),
        ({"Env": ["A=\x1b]0;title\x07"]}, r"Env\[0\].*U\+001B"),
        ({"WorkingDir": "/tmp\0--bind\0/home\0/tmp"}, r"WorkingDir.*U\+0000"),
        ({"WorkingDir": "/a\nb"}, r"WorkingDir.*U\+000A"),
        ({"Entrypoint": ["/bin/sh", "\0"]}, r"Entrypoint\[1\].*U\+0000"),
        ({"Cmd": ["/bin/echo\0x"]}, r"Cmd\[0\].*U\+0000"),
        ({"Cmd": ["a", "b\x7f"]}, r"Cmd\[1\].*U\+007F"),
        ({"Cmd": ["\x9b31m"]}, r"Cmd\[0\].*U\+009B"),
        ({"Cmd": ["\ud800"]}, r"Cmd\[0\].*surrogate|not an image configuration"),
    ],
)
def test_text_that_no_program_can_be_given_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(FormatError, match=f"^image/config.json: .*({named})") as caught:
        parsed(**fields)
    assert str(caught.value).isprintable()


def test_deep_json_is_refused() -> None:
    deep = b'{"config": null, "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(FormatError, match="not an image configuration"):
        parse_run_config(deep, "config.json")


@given(text=st.text())
def test_text_that_is_let_through_can_be_an_argument(text: str) -> None:
    try:
        check_text(text, "here", lines=False)
    except FormatError:
        return
    assert b"\0" not in text.encode("utf-8", "surrogateescape")
    assert len(text.splitlines()) <= 1


@given(before=st.text(max_size=80), after=st.text(max_size=80), lines=st.booleans())
def test_a_nul_is_found_wherever_it_stands(before: str, after: str, lines: bool) -> None:
    with pytest.raises(FormatError):
        check_text(f"{before}\0{after}", "here", lines=lines)
