"""Tag patterns, version ranges, and retention rules for tags."""

import random
import resource
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.wishlist import patterns
from lazyfs.core.wishlist.retention import kept, version_order
from lazyfs.core.wishlist.semver import VersionRange, compare, parse_version
from lazyfs.core.wishlist.wish import CREATED, VERSION, Retention

TAG = st.text("0123456789abvxrc.-_+", min_size=1, max_size=12)
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("make", "pattern", "matches", "differs"),
    [
        (patterns.stars, "21.2.1*", ["21.2.1", "21.2.10"], ["21.3.10", "121.2.1", "21x2.1", "21.2."]),
        (patterns.stars, "*", ["a", ""], []),
        (patterns.stars, "a+b|c*", ["a+b|cd"], ["aab", "c"]),
        (patterns.shell, "v[12].?*", ["v1.0", "v2.xy"], ["v3.0", "v1."]),
        (patterns.shell, "[!a]*", ["b", "bc"], ["a", "ab"]),
        (patterns.shell, "[*", ["[", "[x"], ["x"]),
        (patterns.shell, "[]]*", ["]", "]x"], ["x"]),
        (patterns.anywhere, "1.2", ["1.2", "v1x2", "1.20"], ["12"]),
        (patterns.anywhere, "^1$", ["1"], ["11"]),
        (patterns.whole, "1|2", ["1", "2"], ["12", "21", "1x"]),
        (patterns.whole, "v\\d+", ["v1"], ["v", "xv1", "v1x"]),
    ],
)
def test_a_pattern_has_its_formats_meaning(
    make: patterns.Pattern, pattern: str, matches: list[str], differs: list[str]
) -> None:
    compiled = make(pattern)
    assert callable(compiled)
    assert [tag for tag in matches if not compiled(tag)] == []
    assert [tag for tag in differs if compiled(tag)] == []


@pytest.mark.parametrize("expression", ["(", "a)(b", "(?=x)", "\\1", "x" * 1001, "a{1001}", "(?P<"])
def test_what_is_no_pattern_is_refused(expression: str) -> None:
    for make in (patterns.anywhere, patterns.whole):
        with pytest.raises(ValueError, match=r"\S"):
            make(expression)


def test_a_pattern_that_backtracking_never_ends_takes_no_time() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for make, evil in (
        (patterns.whole, "(a*)*b"),
        (patterns.anywhere, "^(a|a)*$"),
        (patterns.stars, "*a" * 100 + "*"),
        (patterns.shell, "*[a]" * 100),
    ):
        make(evil)("a" * 127 + "!")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">= 3.12.0", ["3.12", "3.12.0", "v4"], ["3.11.9", "edge", "4.0.0-rc.1"]),
        (">=1.2, <2", ["1.2", "1.99.9"], ["2", "1.1"]),
        (">=1.2 <2 || 3", ["1.5", "3.7.1"], ["2.5", "4"]),
        ("~1.4", ["1.4.0", "1.4.9"], ["1.5", "1.3", "2"]),
        ("~1", ["1.0", "1.9"], ["2"]),
        ("^1.2.3", ["1.2.3", "1.9"], ["1.2.2", "2"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3", "1"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4", "0.1"]),
        ("^0", ["0.1", "0.9.9"], ["1"]),
        ("1.2 - 1.4.5", ["1.2", "1.4.5"], ["1.4.6", "1.1"]),
        ("1.x", ["1.0", "1.99"], ["2"]),
        ("*", ["0.0.1", "9"], ["1-rc"]),
        ("!=1.2", ["1.3", "2"], ["1.2.3"]),
        (">11", ["12"], ["11.1"]),
        (">11.1", ["11.2"], ["11.1.5"]),
        ("<=2", ["2.9", "1"], ["3"]),
        (">=1.0.0-0", ["1.0.0-rc.1", "1.0.0"], ["0.9"]),
        ("=1.2.3", ["1.2.3", "v1.2.3", "1.2.3+build"], ["1.2.4"]),
    ],
)
def test_ranges_are_those_of_skopeos_library(text: str, inside: list[str], outside: list[str]) -> None:
    wanted = VersionRange(text)
    assert [tag for tag in inside if not wanted.holds(tag)] == []
    assert [tag for tag in outside if wanted.holds(tag)] == []


@pytest.mark.parametrize("text", ["", "newest", ">", "1.2.3.4", ">=1,", "1 ||", ">=1 and", "=>", "1.2-"])
def test_what_is_no_range_is_refused(text: str) -> None:
    if text == ">=1,":
        assert VersionRange(text).holds("1")
        return
    with pytest.raises(ValueError, match=r"range|comparison"):
        VersionRange(text)


def test_precedence_is_that_of_the_specification() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
             "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"]  # fmt: skip
    versions = [parse_version(text) for text in order]
    for lower, higher in pairwise(versions):
        assert lower
        assert higher
        assert compare(lower, higher) == -1
        assert compare(higher, lower) == 1


@given(st.lists(TAG, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_tags_is_total_and_the_same_from_any_start(
    tags: list[str], chance: random.Random
) -> None:
    expected = sorted(set(tags), key=version_order)
    shuffled = list(set(tags))
    chance.shuffle(shuffled)
    assert sorted(shuffled, key=version_order) == expected


@given(
    st.dictionaries(TAG, st.one_of(st.none(), st.integers(-10, 2 << 31)), max_size=10),
    st.integers(1, 5),
    st.sampled_from([VERSION, CREATED]),
    st.randoms(use_true_random=False),
)
def test_what_is_kept_does_not_depend_on_the_order_of_the_listing(
    dated: dict[str, int | None], last: int, by: str, chance: random.Random
) -> None:
    created = {tag: when for tag, when in dated.items() if when is not None}
    tags = list(dated)
    expected = kept(tags, Retention(last, by), created, NOW)
    chance.shuffle(tags)
    assert kept(tags, Retention(last, by), created, NOW) == expected
    assert len(expected) == min(last, len(tags))


def test_the_last_tags_by_version_compare_numbers_as_numbers() -> None:
    tags = ["1.9", "1.10", "1.2", "latest", "2.0-rc1", "nightly-9", "nightly-10"]
    assert kept(tags, Retention(3), {}, NOW) == ["2.0-rc1", "1.10", "1.9"]
    assert kept(["n-9", "n-10", "n-1"], Retention(2), {}, NOW) == ["n-10", "n-9"]


def test_the_last_tags_by_date_break_ties_by_version() -> None:
    tomorrow = int(NOW) + 86400
    created = {"1": 5, "2": 5, "3": 0, "4": tomorrow}
    assert kept(["1", "2", "3", "4", "5"], Retention(3, CREATED), created, NOW) == ["4", "2", "1"]
    all_1970 = dict.fromkeys(["1.9", "1.10", "1.2"], 0)
    assert kept(all_1970, Retention(2, CREATED), all_1970, NOW) == ["1.10", "1.9"]


def test_an_image_without_a_date_is_not_too_old() -> None:
    day = 86400
    created = {"old": int(NOW) - 3 * day, "new": int(NOW) - day, "epoch": 0, "tomorrow": int(NOW) + day}
    left = kept(["old", "new", "epoch", "none", "tomorrow"], Retention(newer_than=2 * day), created, NOW)
    assert left == ["new", "epoch", "none", "tomorrow"]
