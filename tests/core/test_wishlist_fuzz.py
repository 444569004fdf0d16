"""A stranger's list raises no exception, whatever its bytes are. A line that the stranger adds affects no
other line."""

from textwrap import dedent

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazyfs.core.wishlist.read import read_wishlist
from tests.core.test_wishlist_formats import CERN, OSG, OWN, REGSYNC, SKOPEO

LISTS = [text.encode() for text in (CERN, OSG, SKOPEO, REGSYNC, OWN)]
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"), max_size=60)


@settings(max_examples=300)
@given(st.sampled_from(LISTS), st.data())
def test_a_list_with_bytes_changed_never_raises(data: bytes, choose: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(choose.draw(st.integers(1, 6))):
        at = choose.draw(st.integers(0, len(changed) - 1))
        changed[at : at + choose.draw(st.integers(0, 3))] = choose.draw(st.binary(max_size=3))
    found = read_wishlist(bytes(changed), "list")
    for finding in found.findings:
        assert finding.text("list").isprintable()
    assert not (found.complete and found.errors)


@given(st.binary(max_size=200))
@example(b"\x00")
@example(b"a: \xff")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"? [a]\n: b\n")
@example(b"\xef\xbb\xbfinput: [r.example/a:1]")
def test_any_bytes_are_read(data: bytes) -> None:
    read_wishlist(data, "list")


@given(LINE)
@example("")
@example("# comment")
@example("///")
@example("a\tb")
@example("x" * 60)
def test_a_line_more_in_the_grids_list_harms_no_other(line: str) -> None:
    around = ["docker.io/library/one:1", "two/two:2", "r.example/three/three:3", "four"]
    found = read_wishlist("\n".join([*around[:2], line, *around[2:], ""]).encode(), "list")
    shown = [wish.shown for wish in found.wishes if wish.line != 3]
    assert shown == [
        "docker.io/library/one:1",
        "docker.io/two/two:2",
        "r.example/three/three:3",
        "docker.io/library/four:latest",
    ]
    assert len(found.findings) <= 1


@given(LINE)
@example("'")
@example('"')
@example("@a")
@example("[a")
@example("{a")
@example("!a")
@example("|")
@example("a: b")
@example("`")
@example("%a")
@example("- a")
@example("*a")
def test_an_item_more_in_cerns_list_harms_no_other_or_the_whole_list_is_refused(line: str) -> None:
    text = f"version: 1\ninput:\n  - r.example/one:1\n  - {line}\n  - r.example/three:3\n"
    found = read_wishlist(text.encode(), "list")
    shown = [wish.shown for wish in found.wishes if wish.line != 4]
    if found.whole and not any(line.lstrip().startswith(sign) for sign in ("|", ">", "- ", "-\t", "&")):
        assert shown == ["r.example/one:1", "r.example/three:3"]
    if len(shown) < 2:
        assert not found.complete


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "''") + "'"


PLACES = {
    "cern: an image": (
        """\
        version: 1
        input:
          - r.example/one:1
          - VALUE
          - r.example/three:3
        """,
        4,
    ),
    "skopeo: a tag": (
        """\
        r.example:
          images:
            one: ['1']
            two:
              - VALUE
            three: ['3']
        """,
        5,
    ),
    "skopeo: a regular expression": (
        """\
        r.example:
          images: {one: ['1'], three: ['3']}
          images-by-tag-regex:
            two: VALUE
        """,
        4,
    ),
    "skopeo: a range of versions": (
        """\
        r.example:
          images: {one: ['1'], three: ['3']}
          images-by-semver:
            two: VALUE
        """,
        4,
    ),
    "regsync: a source": (
        """\
        version: 1
        sync:
          - {source: 'r.example/one:1', type: image}
          - source: VALUE
            type: image
          - {source: 'r.example/three:3', type: image}
        """,
        4,
    ),
    "regsync: a pattern": (
        """\
        version: 1
        sync:
          - {source: 'r.example/one:1', type: image}
          - source: r.example/two
            type: repository
            tags: {deny: [VALUE]}
          - {source: 'r.example/three:3', type: image}
        """,
        6,
    ),
    "lazyfs: an image": (
        """\
        lazyfs: 1
        images:
          - r.example/one:1
          - image: VALUE
          - r.example/three:3
        """,
        4,
    ),
    **{
        f"lazyfs: {key}": (
            f"""\
            lazyfs: 1
            images:
              - r.example/one:1
              - image: r.example/two:*
                {key}: VALUE
              - r.example/three:3
            """,
            5,
        )
        for key in (
            "exclude", "regex", "semver", "keep-last", "keep-by", "newer-than", "platforms", "layout",
            "owner", "bind-points",
        )
    },
}  # fmt: skip
PRINTABLE = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=60)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=60)
@given(PRINTABLE | st.from_regex(r"[a-z0-9.:/*@!\[\]()^$<>=,_-]{1,40}", fullmatch=True))
@example("")
@example("a" * 2000)
@example("(a*)*b")
@example("a){2}(")
@example(">=")
@example("/../..")
@example("-1")
@example("99999999999999999999")
def test_a_value_of_a_stranger_is_one_message_at_its_line_and_harms_no_other(place: str, value: str) -> None:
    text, line = PLACES[place]
    found = read_wishlist(dedent(text).replace("VALUE", _quoted(value)).encode(), "list")
    assert found.whole
    shown = [wish.shown for wish in found.wishes]
    for neighbour in ("r.example/one:1", "r.example/three:3"):
        assert neighbour in shown
    assert len(found.errors) <= 1
    for error in found.errors:
        assert error.line == line
        assert error.text("list").isprintable()
        assert len(error.text("list")) < 600
    assert len(shown) <= 3
    assert found.complete == (not found.errors)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=60)
@given(LINE)
@example("<<")
@example("a: {b: [c")
@example("&x *x")
@example("? ")
@example("\x07")
def test_a_bare_value_of_a_stranger_raises_nothing_and_removes_nothing_of_the_others(
    place: str, value: str
) -> None:
    """Without quotes, a value may be any YAML and swallow the lines after it. The list is then marked as
    incomplete, so that no earlier wish is dropped."""
    text, _ = PLACES[place]
    found = read_wishlist(dedent(text).replace("VALUE", value).encode(), "list")
    shown = [wish.shown for wish in found.wishes]
    if not {"r.example/one:1", "r.example/three:3"} <= {*shown}:
        assert not found.complete
    for finding in found.findings:
        assert finding.text("list").isprintable()
