"""The history's format: blocks never change, a search reads few of them, and every field has a bound."""

from contextlib import suppress
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.core.errors import FormatError, UnsupportedFormat, UsageError
from lazyfs.core.history.choice import RevisionChoice, as_revision, check_name, choose, parse_choice
from lazyfs.core.history.head import History, decode
from lazyfs.core.history.records import (
    FANOUT,
    INLINE,
    Block,
    Change,
    KeptName,
    PastRevision,
    decode_blocks,
    decode_changes,
    decode_entries,
    emit_block,
    entry,
)
from lazyfs.core.params import VERSION, Params, Revision
from lazyfs.core.reach import history_at, walk


class Objects(dict[Digest, bytes]):
    """Objects by digest. Counts the reads."""

    reads = 0

    def emit(self, ref: ObjectRef, plain: bytes) -> None:
        assert ref == ref_of(plain)
        self[ref.digest] = plain

    def read(self, ref: ObjectRef) -> bytes:
        self.reads += 1
        return self[ref.digest]


def past(number: int, objects: Objects, before: ObjectRef | None = None, changes: int = 1) -> PastRevision:
    made = [Change(b"r.example/a:%d" % n, b"", sha256(b"%d" % n)) for n in range(changes)]
    return entry(number, 100 + 10 * number, VERSION, ref_of(b"root %d" % number), made, before, objects.emit)


def history_of(count: int, objects: Objects, first: int = 1) -> History:
    made = History()
    for number in range(first, first + count):
        made = made.append(past(number, objects), objects.emit)
    return made


SIZES = [1, FANOUT, FANOUT + 1, 2 * FANOUT, FANOUT**2, FANOUT**2 + FANOUT, FANOUT**2 + FANOUT + 1]


@pytest.mark.parametrize("count", [*SIZES, 10_000])
def test_every_revision_is_found_and_listed_whatever_the_number_of_blocks(count: int) -> None:
    objects = Objects()
    made = decode(history_of(count, objects).encode())
    assert [one.number for one in made.newest_first(objects.read)] == list(range(count, 0, -1))
    for number in {1, 2, FANOUT, FANOUT + 1, count // 2, count - 1, count} - {0}:
        if number > count:
            continue
        objects.reads = 0
        found = made.find(number, objects.read)
        assert found == past(number, objects)
        assert objects.reads <= 3
        for time in (100 + 10 * number, 100 + 10 * number + 9):
            assert made.at(time, objects.read) == found
    assert made.find(count + 1, objects.read) is None
    assert made.find(0, objects.read) is None
    assert made.at(109, objects.read) is None
    assert made.at(10**9, objects.read) == past(count, objects)


def test_a_commit_writes_one_small_head_and_seldom_a_block() -> None:
    objects = Objects()
    made = history_of(10_000, objects)
    assert len(made.encode()) < 20_000
    assert len(objects) <= 10_000 // FANOUT + 10_000 // FANOUT**2
    before = dict(objects)
    for number in range(10_001, 10_001 + FANOUT):
        made = made.append(past(number, objects), objects.emit)
        assert len(made.encode()) < 20_000
    assert len(objects) - len(before) <= 2
    assert before.items() <= objects.items()


def test_a_history_may_begin_late() -> None:
    objects = Objects()
    made = decode(history_of(200, objects, first=50).encode())
    assert [one.number for one in made.newest_first(objects.read)] == list(range(249, 49, -1))
    assert made.find(49, objects.read) is None
    assert made.find(50, objects.read) == past(50, objects)
    assert made.first_number == 50


@settings(max_examples=50)
@given(
    count=st.integers(1, 300),
    steps=st.lists(st.integers(0, 3), min_size=300, max_size=300),
    wanted=st.integers(0, 1000),
)
def test_the_revision_of_a_moment_is_the_last_one_before_it(
    count: int, steps: list[int], wanted: int
) -> None:
    objects, made, times, time = Objects(), History(), [], 0
    for number in range(1, count + 1):
        time += steps[number - 1]
        times.append(time)
        one = entry(number, time, VERSION, ref_of(b"%d" % number), [], None, objects.emit)
        made = made.append(one, objects.emit)
    found = made.at(wanted, objects.read)
    expected = max((number for number, at in enumerate(times, 1) if at <= wanted), default=None)
    assert (found.number if found else None) == expected


def test_many_changes_are_an_object_of_their_own_and_a_walk_reaches_it() -> None:
    objects = Objects()
    small, large = past(1, objects), past(2, objects, changes=100)
    assert small.changes
    assert small.more is None
    assert large.changes == []
    assert large.more is not None
    assert len(decode_changes(objects[large.more.digest])) == 100
    assert len(objects[large.more.digest]) > INLINE
    made = History().append(small, objects.emit).append(large, objects.emit)
    head = ref_of(made.encode())
    objects.emit(head, made.encode())
    assert [found.ref for found in walk([history_at(head)], objects.read)] == [head, large.more]


def test_a_walk_reaches_every_block_once() -> None:
    objects = Objects()
    made = history_of(FANOUT**2 + 2 * FANOUT + 1, objects)
    head = ref_of(made.encode())
    objects.emit(head, made.encode())
    reached = [found.ref.digest for found in walk([history_at(head)], objects.read)]
    assert len(reached) == len(set(reached))
    assert set(reached) == set(objects)


def test_names_move_and_are_released() -> None:
    made = (
        history_of(3, Objects())
        .named(KeptName("b", 1, 5))
        .named(KeptName("a", 2, 6))
        .named(KeptName("b", 3, 7))
    )
    assert decode(made.encode()).names == (KeptName("a", 2, 6), KeptName("b", 3, 7))
    assert made.released("a").names == (KeptName("b", 3, 7),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("41", RevisionChoice("41", number=41)),
        ("2026-05-01", RevisionChoice("2026-05-01", time=1777679999)),
        ("2026-05-01T12:30Z", RevisionChoice("2026-05-01T12:30Z", time=1777638600)),
        ("2026-05-01T12:30", RevisionChoice("2026-05-01T12:30", time=1777638600)),
        ("2026-05-01 14:30+02:00", RevisionChoice("2026-05-01 14:30+02:00", time=1777638600)),
        ("run3-2026", RevisionChoice("run3-2026")),
    ],
)
def test_a_revision_is_named_by_number_date_or_name(text: str, expected: RevisionChoice) -> None:
    assert parse_choice(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5", "2026-13-01", "2026-5-1", "a/b", "x y"])
def test_other_texts_are_no_revision(text: str) -> None:
    with pytest.raises(UsageError, match="give a revision's number, a date"):
        parse_choice(text)


@pytest.mark.parametrize("name", ["", "1a", "2026-05-01", "a/b", "a b", "é", "x" * 129])
def test_other_texts_are_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="starting with a letter"):
        check_name(name)


def test_what_is_not_there_is_said_with_what_is() -> None:
    objects = Objects()
    made = history_of(3, objects).named(KeptName("jan", 2, 0))
    assert choose(made, parse_choice("jan"), objects.read).number == 2
    for text, message in (
        ("4", "no revision 4, only 1 to 3"),
        ("1970-01-01T00:00", "no revision on 1970-01-01T00:00 yet"),
        ("feb", "kept as feb; kept ones: jan"),
    ):
        with pytest.raises(UsageError, match=message):
            choose(made, parse_choice(text), objects.read)


def test_a_revision_of_another_format_version_is_refused() -> None:
    objects = Objects()
    newest = Revision("r", 9, 1, ref_of(b"x"), Params(), ref_of(b"h"))
    found = as_revision(past(3, objects), newest)
    assert (found.number, found.time, found.root, found.name) == (3, 130, ref_of(b"root 3"), "r")
    with pytest.raises(UnsupportedFormat, match="revision 3 has format version 99"):
        as_revision(msgspec.structs.replace(past(3, objects), version=99), newest)


def with_field(place: list[int], value: object) -> bytes:
    """Returns the encoded head of a history of two revisions, in which one field has another value. `place`
    is the path of indices to the field."""
    raw = msgspec.msgpack.decode(history_of(2, Objects()).encode())
    above = raw
    for index in place[:-1]:
        above = above[index]
    above[place[-1]] = value
    return msgspec.msgpack.encode(raw)


HASH = b"x" * 32
ROOT, SIZE, CHANGES, MORE, BEFORE = [1, 0, 3], [1, 0, 4], [1, 0, 6], [1, 0, 7], [1, 0, 9]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ([0], 2),
        ([1, 0, 0], 2),
        ([1, 0, 0], 0),
        ([1, 0, 1], 10**9),
        ([1, 0, 1], -1),
        (ROOT, b"short"),
        (SIZE, 0),
        (SIZE, 1 << 40),
        (MORE, HASH),
        (BEFORE, b"x"),
        (CHANGES, [[b"", b"", b"x"]]),
        (CHANGES, [[b"x" * 5000, b"", b"x"]]),
        (CHANGES, [[b"x", b"", b"x" * 33]]),
        ([1], [[1, 1, 1, HASH, 1, 0, [], b"", 0, b"", 0]] * 65),
        ([2], [[]] * 7),
        ([2], [[]]),
        ([1], []),
        ([2], [[[5, 0, HASH, 1]]]),
        ([2], [[[0, 0, HASH, 1]]]),
        ([3], [["n", 1, 1]] * 1025),
        ([1], 7),
    ],
)
def test_a_head_with_a_wrong_field_is_refused(place: list[int], value: object) -> None:
    assert decode(with_field([0], 1)).newest is not None
    with pytest.raises(FormatError, match=r"history|revision"):
        decode(with_field(place, value))


def test_a_block_that_is_not_the_one_meant_is_refused() -> None:
    objects = Objects()
    made = history_of(FANOUT**2 + FANOUT + 1, objects)
    [low], [high] = made.blocks[0][:1], made.blocks[1][:1]
    last = low.first + FANOUT - 1
    assert decode_entries(objects[Digest(low.digest)], low, last + 1)[-1].number == last
    inner = decode_blocks(objects[Digest(high.digest)], high, low.first)
    assert inner[0].first == 1
    for decoder, block, below in (
        (decode_entries, low, last + 1),
        (decode_blocks, high, low.first),
    ):
        for other in (
            Block(block.first + 1, block.time, block.digest, block.size),
            Block(block.first, block.time - 1, block.digest, block.size),
        ):
            with pytest.raises(FormatError, match="does not begin with"):
                decoder(objects[Digest(block.digest)], other, below)
    for use in (
        lambda: decode_entries(objects[Digest(low.digest)], low, last),
        lambda: decode_blocks(objects[Digest(high.digest)], high, inner[-1].first),
    ):
        with pytest.raises(FormatError, match="and the next one begins with"):
            use()
    with pytest.raises(FormatError):
        decode_entries(objects[Digest(high.digest)], high, low.first)
    with pytest.raises(FormatError):
        decode_blocks(objects[Digest(low.digest)], low, last + 1)


def block_of(content: list[PastRevision] | list[Block], objects: Objects) -> Block:
    first = content[0]
    number = first.number if isinstance(first, PastRevision) else first.first
    return emit_block(number, first.time, content, objects.emit)


def head_over(top: list[Block], level: int, objects: Objects) -> bytes:
    """Returns an encoded head with the blocks `top` at this level, and at each lower level one block that
    covers a single revision."""
    levels = [top]
    for lower in reversed(range(level)):
        block = block_of([past(999 - lower, objects)], objects)
        for _ in range(lower):
            block = block_of([block], objects)
        levels.insert(0, [block])
    return History((past(1000, objects),), tuple(map(tuple, levels))).encode()


@st.composite
def foreign_histories(draw: st.DrawFn) -> tuple[bytes, Objects]:
    """Draws a head and its blocks. Each block leads to some blocks of the level below, which other blocks may
    lead to as well."""
    objects = Objects()
    firsts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    lengths = [draw(st.integers(1, 3)) for _ in firsts]
    below = [
        block_of([past(first + n, objects) for n in range(length)], objects)
        for first, length in zip(firsts, lengths, strict=True)
    ]
    levels = draw(st.integers(0, 3))
    for _ in range(levels + 1):
        some = st.lists(st.sampled_from(below), min_size=1, max_size=4, unique_by=lambda one: one.first)
        chosen = [
            sorted(one, key=lambda one: one.first) for one in draw(st.lists(some, min_size=1, max_size=4))
        ]
        top, below = chosen[0], [block_of(one, objects) for one in chosen]
    return head_over(top, levels, objects), objects


@settings(max_examples=300)
@given(foreign_histories())
def test_numbers_descend_in_whatever_a_history_gives(made: tuple[bytes, Objects]) -> None:
    plain, objects = made
    history, numbers = decode(plain), list[int]()
    assert history.first_number >= 1
    with suppress(FormatError):
        for one in history.newest_first(objects.read):
            numbers.append(one.number)
    assert numbers == sorted(set(numbers), reverse=True)
    assert objects.reads <= len(objects)
    for number in range(16):
        with suppress(FormatError):
            found = history.find(number, objects.read)
            assert found is None or found.number == number


def test_blocks_that_share_the_blocks_in_them_are_refused_at_once() -> None:
    """Each block leads to all blocks of the level below that do not begin earlier. In this way 150 objects
    would stand for millions of revisions."""
    objects = Objects()
    blocks = [block_of([past(number, objects)], objects) for number in range(1, 33)]
    for _ in range(4):
        blocks = [block_of(blocks[at:], objects) for at in range(len(blocks))]
    history = decode(head_over(blocks, 4, objects))
    with pytest.raises(FormatError, match="and the next one begins with"):
        list(islice(history.newest_first(objects.read), 10_000))
    assert objects.reads < len(objects)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_one_error(data: bytes) -> None:
    block = Block(1, 0, sha256(b""), 1)
    for decoder in (
        decode,
        lambda plain: decode_entries(plain, block, 9),
        lambda plain: decode_blocks(plain, block, 9),
        decode_changes,
    ):
        try:
            decoder(data)
        except FormatError:
            continue
