"""A reader who jumps about in a part of a large file has the rest of the part fetched; one who picks chunks
from all over a file does not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.prefetch.dense_parts import CHUNKS, FILES, IN_VAIN, REACH, DenseParts

COUNT = 123
MODULES = (
    *(0, 19, 1, 15, 17, 95, 96, 9, 8, 48, 49, 8, 12, 8, 10, 8, 10, 19, 17, 10, 18, 10, 8, 91, 92, 12, 98, 99),
    *(8, 94, 95, 10, 8, 15, 8, 12, 10, 96, 97, 92, 93, 10, 23, 10, 93, 94, 97, 98, 11, 12, 112, 113, 12, 13),
    *(8, 10, 94, 8, 16, 10, 122, 14, 10, 15, 17, 10, 17, 47, 48, 15, 11, 19, 10, 8, 13, 11, 14, 76, 77, 9, 1),
    *(2, 8, 9, 14, 4, 5, 12, 17, 10, 17, 23, 13, 9, 46, 47, 24),
)
"""The chunks of Java's file of modules in the order in which a start of its compiler reads them."""


def replay(parts: DenseParts, order: list[int], count: int = COUNT) -> tuple[int, set[int]]:
    """Replays a reader of whole chunks for whom everything that was chosen arrives at once. Returns the
    number of its misses, and the chunks that were fetched."""
    here: set[int] = set()
    missed = 0
    for chunk in order:
        parts.read(b"file", chunk)
        if chunk not in here:
            missed += 1
            more = parts.missed(b"file", chunk, count)
            here |= {chunk} if more is None else {chunk, more}
    return missed, here


def test_a_start_of_java_waits_for_fewer_of_its_modules() -> None:
    missed, fetched = replay(DenseParts(), list(MODULES))
    assert missed <= len(set(MODULES)) * 0.75
    assert len(fetched - set(MODULES)) <= 2


def test_nothing_is_near_the_first_miss() -> None:
    parts = DenseParts()
    for chunk in (40, 40 + REACH + 1):
        parts.read(b"file", chunk)
        assert parts.missed(b"file", chunk, COUNT) is None


def test_the_nearest_chunk_comes_and_each_one_once() -> None:
    parts = DenseParts()
    for chunk in (10, 12, 11):
        parts.read(b"file", chunk)
    assert [parts.missed(b"file", 11, COUNT) for _ in range(2)] == [13, 9]
    assert parts.missed(b"other", 11, COUNT) is None


def test_the_ends_of_a_file_bound_what_is_fetched() -> None:
    parts = DenseParts()
    for chunk in (0, 1, 2):
        parts.read(b"file", chunk)
    assert [parts.missed(b"file", 0, 4) for _ in range(2)] == [3, None]


def test_a_reader_who_picks_chunks_gets_few_in_vain() -> None:
    picked = random.Random(7).sample(range(4000), 400)
    missed, fetched = replay(DenseParts(), picked, 4000)
    assert missed >= 350
    assert len(fetched) <= len(picked) + 2 * IN_VAIN + (len(picked) - missed)


@given(st.lists(st.integers(0, 63), max_size=200))
def test_what_is_not_read_is_bounded_by_what_is(order: list[int]) -> None:
    missed, fetched = replay(DenseParts(), order, 64)
    used = len(set(order)) - missed
    assert len(fetched - set(order)) <= used + IN_VAIN
    assert fetched <= set(range(64))


@given(st.integers(0, 4000), st.sets(st.integers(0, 4000), max_size=30))
def test_what_comes_along_is_near_and_was_not_read(chunk: int, before: set[int]) -> None:
    parts = DenseParts()
    for other in (*before, chunk):
        parts.read(b"file", other)
    found = parts.missed(b"file", chunk, 4001)
    assert (found is not None) == any(0 < abs(other - chunk) <= REACH for other in before)
    if found is not None:
        assert 0 < abs(found - chunk) <= REACH
        assert found not in before


def test_memory_is_bounded() -> None:
    parts = DenseParts()
    for number in range(2 * FILES):
        parts.read(number.to_bytes(8, "big"), 0)
    for chunk in range(3 * CHUNKS):
        parts.read(b"large", chunk)
        parts.missed(b"large", chunk, 4 * CHUNKS)
    assert len(parts._files) == FILES
    assert len(parts._files[b"large"].read) == CHUNKS
    assert len(parts._files[b"large"].chosen) <= CHUNKS
