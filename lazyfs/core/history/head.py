"""The history of a repository: its revisions, the changes that each made, and the names of revisions.

The signed metadata of a revision names its history's *head*, an object. The head holds the last revisions,
FANOUT at most, and leads to *blocks*: objects of FANOUT revisions, or of FANOUT blocks, that never change. So
a commit writes one small head, and a block now and then. A reader finds any of n revisions in log n objects,
and a client that trusts the newest revision can prove every older one.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import FormatError
from lazyfs.core.history.records import (
    FANOUT,
    LEVELS,
    MAX_NAMES,
    VERSION,
    Block,
    Emit,
    KeptName,
    PastRevision,
    Read,
    check_blocks,
    check_entries,
    check_version,
    decode_blocks,
    decode_entries,
    emit_block,
)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    entries: list[PastRevision]
    blocks: list[list[Block]]
    names: list[KeptName]


_head = msgspec.msgpack.Decoder(_Head)


class BlockAt(NamedTuple):
    """A block and its level: 0 holds revisions, 1 leads to blocks of level 0, and so on."""

    block: Block
    level: int
    below: int
    """Number of the first revision after this block."""


def _placed(blocks: Sequence[Block], level: int, below: int) -> list[BlockAt]:
    """Returns the blocks that one object names, as BlockAts of this level. `below`: number of the first
    revision after them."""
    after = [*(block.first for block in blocks[1:]), below]
    return [BlockAt(block, level, next_first) for block, next_first in zip(blocks, after, strict=True)]


class History:
    """A head, decoded. Immutable: `append`, `named` and `released` return a new History."""

    def __init__(
        self,
        entries: tuple[PastRevision, ...] = (),
        blocks: tuple[tuple[Block, ...], ...] = (),
        names: tuple[KeptName, ...] = (),
    ) -> None:
        """`blocks`: the blocks of each level, level 0 first, in order."""
        self.entries = entries
        self.blocks = blocks
        self.names = names

    @property
    def newest(self) -> PastRevision | None:
        """The newest revision; None if the history has no revision yet."""
        return self.entries[-1] if self.entries else None

    @property
    def first_number(self) -> int:
        """The number of the first revision; 0 if the history has no revision yet."""
        if self.blocks:
            return self.blocks[-1][0].first
        return self.entries[0].number if self.entries else 0

    def append(self, entry: PastRevision, emit: Emit) -> "History":
        """Returns the history with one more revision. `emit` is called with each block that becomes full."""
        entries = (*self.entries, entry)
        if len(entries) <= FANOUT:
            return History(entries, self.blocks, self.names)
        made = emit_block(entries[0].number, entries[0].time, list(entries[:FANOUT]), emit)
        levels = list(self.blocks)
        for level in range(LEVELS):
            there = levels[level] if level < len(levels) else ()
            levels[level : level + 1] = [(*there, made)]
            if len(levels[level]) <= FANOUT:
                break
            full = levels[level][:FANOUT]
            levels[level] = levels[level][FANOUT:]
            made = emit_block(full[0].first, full[0].time, list(full), emit)
        return History(entries[FANOUT:], tuple(levels), self.names)

    def named(self, name: KeptName) -> "History":
        """Returns the history with this name; a name that is there already moves to the new revision."""
        others = [kept for kept in self.names if kept.name != name.name]
        return History(self.entries, self.blocks, tuple(sorted([*others, name], key=lambda kept: kept.name)))

    def released(self, name: str) -> "History":
        """Returns the history without this name."""
        return History(self.entries, self.blocks, tuple(kept for kept in self.names if kept.name != name))

    def newest_first(self, read: Read) -> Iterator[PastRevision]:
        """Yields every revision, newest first; blocks are read as they are needed. Raises FormatError, and as
        `read`."""
        yield from reversed(self.entries)
        for placed in self.placed():
            stack = list(placed)
            while stack:
                block, level, below = stack.pop()
                if level:
                    stack += _placed(decode_blocks(read(block.ref), block, below), level - 1, below)
                else:
                    yield from reversed(decode_entries(read(block.ref), block, below))

    def placed(self) -> Iterator[list[BlockAt]]:
        """Yields the head's blocks of each level, level 0 first."""
        below = self.entries[0].number if self.entries else 0
        for level, blocks in enumerate(self.blocks):
            yield _placed(blocks, level, below)
            below = blocks[0].first

    def find(self, number: int, read: Read) -> PastRevision | None:
        """Returns the revision of this number, None if there is none. Raises as `newest_first`."""
        found = self._last(lambda first, _time: first, number, read)
        return found if found and found.number == number else None

    def at(self, time: int, read: Read) -> PastRevision | None:
        """Returns the revision that was the newest at this time; None if there was none yet. Raises as
        `newest_first`."""
        return self._last(lambda _first, first_time: first_time, time, read)

    def _last(self, key: Callable[[int, int], int], wanted: int, read: Read) -> PastRevision | None:
        """Returns the last revision whose number, or time, is at most `wanted`; None if there is none. `key`
        chooses between number and time."""
        at = bisect_right(self.entries, wanted, key=lambda one: key(one.number, one.time))
        if at:
            return self.entries[at - 1]
        for placed in self.placed():
            at = bisect_right(placed, wanted, key=lambda one: key(one.block.first, one.block.time))
            if not at:
                continue
            block, level, below = placed[at - 1]
            while level:
                inner = _placed(decode_blocks(read(block.ref), block, below), level - 1, below)
                at = bisect_right(inner, wanted, key=lambda one: key(one.block.first, one.block.time))
                block, level, below = inner[at - 1]
            entries = decode_entries(read(block.ref), block, below)
            at = bisect_right(entries, wanted, key=lambda one: key(one.number, one.time))
            return entries[at - 1]
        return None

    def encode(self) -> bytes:
        """Returns the plaintext of the head."""
        blocks = [list(level) for level in self.blocks]
        return msgspec.msgpack.encode(_Head(VERSION, list(self.entries), blocks, list(self.names)))


def decode(plain: bytes) -> History:
    """Returns the history of a head. Raises FormatError."""
    try:
        head = _head.decode(plain)
    except msgspec.MsgspecError as error:
        raise FormatError(f"bad history: {error}") from None
    check_version(head.version)
    check_entries(head.entries)
    if len(head.blocks) > LEVELS or len(head.names) > MAX_NAMES:
        raise FormatError(f"a history of {len(head.blocks)} levels and {len(head.names)} names")
    if not head.entries or not all(head.blocks):
        raise FormatError("a history with no revision, or no block, where there must be some")
    below = head.entries[0].number
    for blocks in head.blocks:
        check_blocks(blocks)
        if blocks[-1].first >= below:
            raise FormatError("the blocks of a history are out of order")
        below = blocks[0].first
    return History(tuple(head.entries), tuple(map(tuple, head.blocks)), tuple(head.names))


def leads_to(plain: bytes, block: BlockAt | None) -> Iterator[tuple[ObjectRef, BlockAt | None]]:
    """Yields the objects that a head, or a `block` of it, leads to: each block with its BlockAt, each object
    of changes with None. Leaves catalogs out: not every revision is kept. Raises FormatError."""
    entries: Iterable[PastRevision] = ()
    blocks: list[BlockAt] = []
    if block is None:
        history = decode(plain)
        entries, blocks = history.entries, [one for placed in history.placed() for one in placed]
    elif block.level:
        inner = decode_blocks(plain, block.block, block.below)
        blocks = _placed(inner, block.level - 1, block.below)
    else:
        entries = decode_entries(plain, block.block, block.below)
    yield from ((one.more, None) for one in entries if one.more)
    yield from ((one.block.ref, one) for one in blocks)
