"""The readahead window of a reader. It opens once reads prove to be sequential, grows while they continue,
and shrinks at jumps."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.prefetch.readahead import FIRST, MOST, PROOF, READERS, SLACK, ReadAhead, Window

STEP = 128 << 10
SIZE = 1 << 30


def _sequential(window: Window, start: int, stop: int, size: int = SIZE) -> list[tuple[int, int]]:
    asked = (window.read(offset, STEP, size) for offset in range(start, stop, STEP))
    return [piece for piece in asked if piece[0] < piece[1]]


def test_the_head_of_a_file_fetches_nothing_ahead() -> None:
    window = Window()
    for _ in range(PROOF - 1):
        start, end = window.read(0, STEP, SIZE)
        assert start == end


def test_a_sequential_reader_is_kept_ahead_of_and_asked_once() -> None:
    window = Window()
    pieces = _sequential(window, 0, 256 << 20)
    for (_, end), (start, _) in itertools.pairwise(pieces):
        assert end == start
    assert pieces[0][1] - pieces[0][0] <= FIRST
    assert max(end for _, end in pieces) >= (256 << 20) + MOST // 2


def test_the_window_grows_to_its_limit_and_no_further() -> None:
    window = Window()
    position, farthest, sizes = 0, 0, []
    while position < 256 << 20:
        start, end = window.read(position, STEP, SIZE)
        position += STEP
        farthest = max(farthest, end if start < end else 0)
        sizes.append(max(farthest - position, 0))
    assert max(sizes) <= MOST
    assert max(sizes[:100]) < max(sizes)


def test_jumps_shrink_it() -> None:
    window = Window()
    _sequential(window, 0, 256 << 20)
    for jump in range(6):
        start, end = window.read((500 + 20 * jump) << 20, STEP, SIZE)
        assert start == end
    pieces = _sequential(window, 900 << 20, (900 << 20) + STEP * (PROOF + 1))
    assert pieces[0][1] - pieces[0][0] <= FIRST


def test_random_readers_fetch_nothing_ahead() -> None:
    window = Window()
    for index in range(1000):
        start, end = window.read((index * 7919 % 1000) * (SLACK * 3), STEP, SIZE * 10)
        assert start == end


@given(
    reads=st.lists(st.tuples(st.integers(0, 80 << 20), st.integers(1, 4 << 20)), max_size=60),
    size=st.integers(1, 64 << 20),
)
def test_nothing_beyond_the_file_or_the_limit(reads: list[tuple[int, int]], size: int) -> None:
    window = Window()
    for offset, length in reads:
        start, end = window.read(offset, length, size)
        if start != end:
            assert 0 <= start < end <= size
            assert end - start <= MOST


@given(st.permutations(range(8)), st.integers(1, 20))
def test_the_kernels_disorder_is_still_a_sequence(order: list[int], rounds: int) -> None:
    window = Window()
    asked: list[tuple[int, int]] = []
    for base in range(rounds):
        for place in order:
            start, end = window.read((base * 8 + place) * STEP, STEP, SIZE)
            if start < end:
                asked.append((start, end))
    assert asked
    for (_, end), (start, _) in itertools.pairwise(asked):
        assert end <= start


def test_readers_are_told_apart_and_forgotten() -> None:
    readers = ReadAhead()
    for number in range(3 * READERS):
        readers.read(number, 0, STEP, SIZE)
    assert len(readers._windows) == READERS
    for offset in range(0, PROOF * STEP, STEP):
        start, end = readers.read(5, offset, STEP, SIZE)
    assert start < end
