"""Reports of starts: what a body may hold, and the merge of many starts."""

from collections.abc import Sequence
from random import Random
from statistics import median_low

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.collected_profiles import CollectedProfile
from lazyfs.core.collected_profiles import decode as decode_list
from lazyfs.core.collected_profiles import encode as encode_list
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import FormatError
from lazyfs.core.start_reports.merge import MOST_BYTES, MOST_STARTS, PART, Voices
from lazyfs.core.start_reports.report import MOST_BODY, StartReport, TouchedFile, decode, encode
from tests.support.merged_starts import merged

ITEMS = [sha256(b"%d" % number) for number in range(40)]
SIZES = {item: 1 + number * 37 % 1000 for number, item in enumerate(ITEMS)}
START = st.lists(st.sampled_from(ITEMS), min_size=1, max_size=40, unique=True)


def size_of(item: Digest) -> int:
    return SIZES[item]


def total(items: Sequence[Digest]) -> int:
    return sum(map(size_of, items))


@given(st.lists(START, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_what_a_third_touched_is_kept_in_whatever_order_the_starts_come(
    starts: list[list[Digest]], random: Random
) -> None:
    kept = merged(starts, size_of)
    shuffled = list(starts)
    random.shuffle(shuffled)
    assert merged(shuffled, size_of) == kept
    assert len(set(kept)) == len(kept)
    wanted = {item for item in ITEMS if sum(item in start for start in starts) * PART >= len(starts)}
    assert set(kept) <= wanted
    if total(list(wanted)) <= MOST_BYTES * median_low(list(map(total, starts))):
        assert set(kept) == wanted


@given(START, st.integers(1, 20))
def test_equal_starts_are_kept_whole_in_their_order(start: list[Digest], count: int) -> None:
    assert merged([start] * count, size_of) == start


def test_an_object_that_a_start_repeats_counts_once() -> None:
    assert merged([[ITEMS[0]] * 100, [ITEMS[1]], [ITEMS[1]], [ITEMS[1]]], size_of) == [ITEMS[1]]


@given(START, st.lists(START, max_size=6), st.integers(0, 3))
def test_liars_in_less_than_a_third_of_the_starts_add_nothing(
    honest: list[Digest], lies: list[list[Digest]], more: int
) -> None:
    """Nothing that only liars name is kept, and nothing that the honest starts have in common is lost."""
    starts = [honest] * (2 * len(lies) + 1 + more) + lies
    assert set(merged(starts, size_of)) == set(honest)


@given(st.lists(START, min_size=1, max_size=9), st.lists(START, max_size=8))
def test_wasted_bytes_are_bounded_whatever_liars_say(
    honest: list[list[Digest]], lies: list[list[Digest]]
) -> None:
    """Liars in any number waste no more than three times the mean of all starts. While they are fewer than
    the honest, they waste no more than twice the largest honest start."""
    starts = honest + lies
    kept = total(merged(starts, size_of))
    assert kept <= PART * sum(map(total, starts)) / len(starts)
    if len(lies) < len(honest):
        assert kept <= MOST_BYTES * max(map(total, honest))


def test_the_counts_of_a_program_stay_small_and_follow_what_it_does_now() -> None:
    old, new = ITEMS[:10], ITEMS[10:20]
    voices = Voices()
    for _ in range(3 * MOST_STARTS):
        voices.count(old, total(old))
    assert voices.starts == len(voices.sizes) <= MOST_STARTS
    for _ in range(2 * MOST_STARTS):
        voices.count(new, total(new))
    assert voices.kept(size_of) == new
    assert max(starts for starts, _ in voices.touched.values()) <= voices.starts <= MOST_STARTS


def report(**changed: object) -> StartReport:
    fields = {
        "version": 1,
        "repository": "r.example",
        "image": ITEMS[0],
        "program": b"usr/bin/python3",
        "touched": (TouchedFile(b"usr/bin/python3", (ITEMS[1], ITEMS[2])),),
    }
    return StartReport(**(fields | changed))  # type: ignore[arg-type]


def test_a_report_is_read_as_it_was_written() -> None:
    assert decode(encode(report())) == report()


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"image": b"short"},
        {"program": b"../bin/sh"},
        {"program": b"/bin/sh"},
        {"program": b""},
        {"touched": ()},
        {"touched": (TouchedFile(b"a//b", (ITEMS[1],)),)},
        {"touched": (TouchedFile(b"a\0b", (ITEMS[1],)),)},
        {"touched": (TouchedFile(b"a", ()),)},
        {"touched": (TouchedFile(b"a", (ITEMS[1],)), TouchedFile(b"a", (ITEMS[2],)))},
        {"touched": (TouchedFile(b"a", (ITEMS[1][:31],)),)},
        {"touched": tuple(TouchedFile(b"%d" % at, (ITEMS[1],)) for at in range(20_001))},
        {"touched": tuple(TouchedFile(b"%d" % at, (ITEMS[1],) * 33_000) for at in range(2))},
    ],
)
def test_what_is_no_report_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        decode(encode(report(**wrong)))


def test_a_report_of_any_length_is_bounded() -> None:
    with pytest.raises(FormatError, match="over"):
        decode(bytes(MOST_BODY + 1))


VALUES = st.recursive(st.integers(-(2**63), 2**64 - 1) | st.binary(), st.lists, max_leaves=20)


@given(st.binary(max_size=200) | VALUES.map(msgspec.msgpack.encode))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    for read in (decode, decode_list):
        try:
            read(data)
        except FormatError:
            continue


def test_a_list_of_profiles_is_the_same_in_any_order() -> None:
    profiles = [
        CollectedProfile(image, ObjectRef(ITEMS[number], 10 + number))
        for number, image in enumerate([ITEMS[2], ITEMS[0], ITEMS[1]])
    ]
    assert encode_list(profiles) == encode_list(profiles[::-1])
    assert decode_list(encode_list(profiles)) == sorted(profiles)
    with pytest.raises(FormatError):
        decode_list(encode_list([profiles[0]._replace(profile=ObjectRef(ITEMS[0], 0))]))
