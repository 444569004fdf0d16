"""Readers on their way through an image: when they are recognised, and how far is fetched ahead of them."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.prefetch.walks import BEHIND, FIRST, MOST, PROOF, REACH, WALKS, Onward, Walks
from lazyfs.vfs.walk_order import Step

PACK = 1 << 20


class Image:
    """The objects of an image in order, and a reader of them that waits for what was not asked for ahead."""

    def __init__(self, sizes: list[int], further: frozenset[int] = frozenset(), name: bytes = b"") -> None:
        """`further`: the objects that are further chunks of the file before them."""
        self.refs = [ObjectRef(ref_of(b"%s %d" % (name, at)).digest, size) for at, size in enumerate(sizes)]
        self.further = further
        self.asked: list[ObjectRef] = []
        self.waits = 0
        self.pauses: frozenset[int] = frozenset()
        """The objects before each of which the way pauses once."""
        self.known = len(sizes)
        """The first object before which the way pauses until this number is raised."""

    def onward(self, at: int) -> Callable[[], Onward]:
        def go_on() -> Iterator[Step | None]:
            for number in range(at + 1, len(self.refs)):
                if number in self.pauses:
                    yield None
                while number >= self.known:
                    yield None
                yield Step(self.refs[number], number not in self.further)

        return go_on

    def read(self, walks: Walks, at: int) -> None:
        found = walks.read(self.refs[at])
        if self.refs[at] not in self.asked:
            self.waits += 1
            found += walks.missed(self.refs[at], self.onward(at))
        self.asked += found


def ordered(count: int = 200) -> Image:
    return Image([PACK] * count)


def test_a_reader_is_ahead_of_which_nothing_is_fetched_before_the_proof() -> None:
    image, walks = ordered(), Walks()
    for at in range(PROOF):
        image.read(walks, at)
        assert image.asked == []
    image.read(walks, PROOF)
    assert image.asked == image.refs[PROOF + 1 : PROOF + 1 + FIRST // PACK]


def test_the_window_grows_with_what_is_read_of_it() -> None:
    image, walks = ordered(), Walks()
    for at in range(PROOF + 1):
        image.read(walks, at)
    for count in range(1, 40):
        image.read(walks, PROOF + count)
        ahead = min(FIRST // PACK + count, MOST // PACK)
        assert image.asked == image.refs[PROOF + 1 : PROOF + 1 + count + ahead]
    assert image.waits == PROOF + 1


@pytest.mark.parametrize("step", [REACH + 1, 7, -1])
def test_who_jumps_is_not_on_the_way(step: int) -> None:
    image, walks = ordered(), Walks()
    for at in range(100, 140, step) if step > 0 else range(100, 20, step):
        image.read(walks, at)
    assert image.asked == []


def test_the_chunks_of_one_large_file_are_no_steps() -> None:
    image, walks = Image([PACK] * 100, frozenset(range(2, 90))), Walks()
    for at in range(80):
        image.read(walks, at)
    assert image.asked == []


def test_a_jump_halves_the_window() -> None:
    image, walks = ordered(), Walks()
    for at in range(40):
        image.read(walks, at)
    before = len(image.asked)
    image.read(walks, 39 + MOST // PACK)
    assert image.asked[before:] == image.refs[40 + MOST // PACK :][: MOST // PACK // 2]


def test_a_large_file_on_the_way_does_not_stop_the_line() -> None:
    image, walks = Image([PACK] * 100, frozenset(range(20, 40))), Walks()
    for at in range(100):
        image.read(walks, at)
    assert image.waits == PROOF + 1
    assert image.asked == image.refs[PROOF + 1 :]


def test_readers_of_different_images_do_not_disturb_one_another() -> None:
    walks = Walks()
    images = [Image([PACK] * 60, name=b"%d" % number) for number in range(WALKS)]
    for at in range(60):
        for image in images:
            image.read(walks, at)
    assert [image.waits for image in images] == [PROOF + 1] * WALKS


def test_jumps_elsewhere_do_not_end_a_walk() -> None:
    """The misses of programs that run beside the reader would push it out of the table if they counted as
    readers on their way too, once each."""
    image, other, walks = ordered(), Image([PACK] * 5000, name=b"other"), Walks()
    for at in range(150):
        image.read(walks, at)
        for number in range(WALKS // 2):
            other.read(walks, (at * 8 + number) * 5 % 4999)
    assert image.waits == PROOF + 1


def test_a_reader_whose_first_reads_come_out_of_order_is_one_reader() -> None:
    image, walks = ordered(), Walks()
    for at in (1, 0, *range(2, 100)):
        image.read(walks, at)
    assert image.waits == PROOF + 2


def test_a_miss_ahead_of_a_reader_does_not_stop_it() -> None:
    image, walks = ordered(), Walks()
    assert walks.missed(image.refs[60], image.onward(60)) == []
    for at in range(100):
        image.read(walks, at)
    assert image.waits == PROOF + 1


def test_a_reader_who_was_faster_than_the_way_became_known_waits_once() -> None:
    image, walks = ordered(), Walks()
    image.known = 20
    for at in range(20):
        image.read(walks, at)
    assert image.asked[-1] == image.refs[19]
    image.known = 200
    for at in range(20, 100):
        image.read(walks, at)
    assert image.waits == PROOF + 2


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 2 * PACK), min_size=10, max_size=120),
    st.frozensets(st.integers(5, 119)),
    st.frozensets(st.integers(1, 119)),
    st.randoms(use_true_random=False),
)
def test_a_reader_on_its_way_waits_for_little_and_nothing_is_fetched_in_vain(
    sizes: list[int], further: frozenset[int], pauses: frozenset[int], random: object
) -> None:
    """The kernel's reads come out of order by a few, the way pauses at any place. Everything is fetched once,
    in order, and read; at any time no more is fetched ahead than the window allows."""
    image, walks = Image(sizes, further), Walks()
    image.pauses = pauses
    order = sorted(range(len(sizes)), key=lambda at: at + random.choice((0, 0, 1.5)))  # type: ignore[attr-defined]
    read, proven = set[ObjectRef](), 0
    for at in order:
        image.read(walks, at)
        read.add(image.refs[at])
        if image.asked:
            proven += sizes[at]
        furthest = max(map(image.refs.index, read))
        ahead = sum(ref.size for ref in image.asked if ref in image.refs[furthest + 1 :])
        assert ahead <= min(FIRST + proven, MOST) + max(sizes)
    assert len(set(image.asked)) == len(image.asked)
    assert image.asked == sorted(image.asked, key=image.refs.index)
    assert set(image.asked) <= read


@given(st.lists(st.integers(0, 99), max_size=200), st.frozensets(st.integers(1, 99)))
def test_any_order_of_reads_leaves_the_table_in_order(reads: list[int], pauses: frozenset[int]) -> None:
    """Whatever is read, each object is asked for after a read of one before it, and what is ahead of each
    reader stays within the largest window."""
    image, walks = Image([PACK] * 100), Walks()
    image.pauses = pauses
    for at in reads:
        before = len(image.asked)
        image.read(walks, at)
        assert len(image.asked) - before <= MOST // PACK + 1
    rest = Image([PACK] * 100, name=b"rest")
    for at in range(100):
        rest.read(walks, at)
    assert rest.waits == PROOF + 1


def test_what_lies_just_behind_a_reader_begins_no_other_walk() -> None:
    image, walks = ordered(), Walks()
    for at in range(60):
        image.read(walks, at)
    asked = list(image.asked)
    for at in range(60 - BEHIND, 60):
        assert walks.missed(image.refs[at], image.onward(at)) == []
    image.read(walks, 60)
    assert image.asked[:-1] == asked
