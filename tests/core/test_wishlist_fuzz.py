"""A stranger's list raises no exception, whatever its bytes are. An added line harms no other line."""

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
