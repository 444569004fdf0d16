"""Lists of paths: plain ones and CVMFS's file bundles are read, anything else is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import path_lists
from lazyfs.core.errors import FormatError
from lazyfs.core.path_lists import parse_list

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0\r\n"), min_size=1, max_size=20).filter(
    lambda name: name.strip() == name and name != "." and not name.startswith("{")
)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)


def bundle(**fields: object) -> bytes:
    given = {"name": "CVMFS_BUNDLE", "version": "1.0.0", "encoding": "UTF-8", "dependencies": ["/a"]}
    return json.dumps(given | fields).encode()


@given(st.lists(PATHS, max_size=10, unique=True), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_both_notations_give_the_same_paths_in_their_order(paths: list[str], end: str) -> None:
    absolute = [f"/{path}" for path in paths]
    expected = [path.encode() for path in paths]
    assert parse_list("".join(path + end for path in absolute).encode()) == expected
    assert parse_list(bundle(dependencies=absolute)) == expected


@pytest.mark.parametrize("path", ["lib/x", "./lib/x", ".//lib/./x"])
def test_relative_paths_count_from_the_lists_directory(path: str) -> None:
    for text in (path.encode(), bundle(dependencies=[path])):
        assert parse_list(text, b"opt/app") == [b"opt/app/lib/x"]
        assert parse_list(text, b"/opt/app/") == [b"opt/app/lib/x"]
        assert parse_list(text) == [b"lib/x"]


def test_a_path_counts_once_where_it_comes_first() -> None:
    assert parse_list(b"/b\n/a\n//b\n") == [b"b", b"a"]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{" * 100_000,
        b"{}",
        bundle(name="OTHER"),
        bundle(version="2.0.0"),
        bundle(encoding="latin-1"),
        bundle(dependencies=[1]),
        bundle(dependencies="/a"),
        bundle(dependencies=["a\0b"]),
        bundle(dependencies=["/\ud800"]),
        b"/" + b"x" * path_lists.PATH_MAX,
        b"\n".join(b"%d" % number for number in range(path_lists.MOST + 1)),
    ],
)
def test_what_is_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        parse_list(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_are_refused(text: bytes) -> None:
    try:
        assert all(not path.startswith(b"/") for path in parse_list(text))
    except FormatError:
        pass
