"""The parts of a history as objects hold them, and their bounds: revisions, changes, blocks, names."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from lazyfs.core import bounds
from lazyfs.core.digest import SIZE, Digest, ObjectRef, ref_of
from lazyfs.core.errors import FormatError

VERSION = 1
FANOUT = 64
"""Number of revisions in a block of level 0, and of blocks in a higher one. A head takes some 10 KB; finding
one of 10,000 revisions takes three reads."""
LEVELS = 6
"""The largest number of levels of blocks: room for 64 ** 7 revisions."""
INLINE = 1024
"""The largest number of bytes of changes that a revision's entry itself holds. Larger changes are an object
of their own, so that a head stays small."""
MAX_CHANGES = 1 << 16
"""The largest number of changes that a revision states: if there are more, the first ones are kept."""
MAX_NAMES = 1024
"""The largest number of named revisions at a time."""

Read = Callable[[ObjectRef], bytes]
"""A function that returns the verified plaintext of an object, or raises an exception."""
Emit = Callable[[ObjectRef, bytes], None]
"""A function that stores an object, given its reference and plaintext."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One change of a revision: an image, published tree or profile was added, removed or replaced."""

    path: bytes
    """The path of the tree, or of the link to the image. For a change of an image's profile: the path of the
    image in `.flat`."""
    old: bytes
    """The digest of the earlier content: of the config that the link leads to, of the tree's catalog, or of
    the profile. Empty if there was none."""
    new: bytes

    @property
    def kind(self) -> str:
        """`came` (added), `went` (removed) or `moved` (replaced)."""
        return "came" if not self.old else "moved" if self.new else "went"


class PastRevision(msgspec.Struct, frozen=True, array_like=True):
    """One revision as its history states it."""

    number: int
    time: int
    """The time at which the revision was published: seconds since 1970, UTC; never before that of the earlier
    revision."""
    version: int
    """The format version of the root catalog."""
    root_digest: bytes
    root_size: int
    restored: int
    """The older revision whose content this one has, if a rollback made it; otherwise 0."""
    changes: list[Change]
    changes_digest: bytes
    changes_size: int
    """`changes_digest` and `changes_size` name the object that holds the changes, if they are too many to
    stand in `changes`; otherwise they are empty and 0."""
    before_digest: bytes
    before_size: int
    """`before_digest` and `before_size` name the head that the history had when the previous revision was
    last signed; for the first revision they are empty and 0."""

    @property
    def root(self) -> ObjectRef:
        """The root catalog."""
        return ObjectRef(Digest(self.root_digest), self.root_size)

    @property
    def more(self) -> ObjectRef | None:
        """The object that holds the changes, if they are not in `changes`; otherwise None."""
        return _optional(self.changes_digest, self.changes_size)

    @property
    def before(self) -> ObjectRef | None:
        """The head that the history had when the previous revision was last signed; None for the first
        revision."""
        return _optional(self.before_digest, self.before_size)


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A reference to a block, as the head of the history or a block of the next level holds it."""

    first: int
    """The number of the block's first revision."""
    time: int
    """The time of the block's first revision."""
    digest: bytes
    size: int

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(Digest(self.digest), self.size)


class KeptName(msgspec.Struct, frozen=True, array_like=True):
    """A name that keeps a revision until it is released."""

    name: str
    number: int
    time: int
    """Moment at which the name was given."""


T = TypeVar("T")

_entries = msgspec.msgpack.Decoder(tuple[int, list[PastRevision]])
_blocks = msgspec.msgpack.Decoder(tuple[int, list[Block]])
_changes = msgspec.msgpack.Decoder(tuple[int, list[Change]])


def _decoded(decoder: msgspec.msgpack.Decoder[tuple[int, list[T]]], plain: bytes, what: str) -> list[T]:
    """Returns the records that an object of a history holds. `what`: names the object in errors. Raises
    FormatError, also for a history of another format version."""
    try:
        version, records = decoder.decode(plain)
    except msgspec.MsgspecError as error:
        raise FormatError(f"bad {what}: {error}") from None
    check_version(version)
    return records


def decode_entries(plain: bytes, block: Block, below: int) -> list[PastRevision]:
    """Returns the revisions of a block of level 0; all their numbers are lower than `below`. Raises
    FormatError."""
    entries = _decoded(_entries, plain, "block of a history")
    check_entries(entries)
    if not entries or (entries[0].number, entries[0].time) != (block.first, block.time):
        raise FormatError(f"the block of a history does not begin with revision {block.first}")
    _check_below(entries[-1].number, below)
    return entries


def decode_blocks(plain: bytes, block: Block, below: int) -> list[Block]:
    """Returns the blocks of a block of a higher level; all of them begin with revisions lower than `below`.
    Raises FormatError."""
    blocks = _decoded(_blocks, plain, "block of a history")
    check_blocks(blocks)
    if not blocks or (blocks[0].first, blocks[0].time) != (block.first, block.time):
        raise FormatError(f"the block of a history does not begin with revision {block.first}")
    _check_below(blocks[-1].first, below)
    return blocks


def encode_changes(changes: list[Change]) -> bytes:
    """Returns the plaintext of an object of changes."""
    return msgspec.msgpack.encode((VERSION, changes))


def decode_changes(plain: bytes) -> list[Change]:
    """Returns the changes in an object of changes. Raises FormatError."""
    changes = _decoded(_changes, plain, "changes of a revision")
    _check_changes(changes)
    return changes


def entry(
    number: int,
    time: int,
    version: int,
    root: ObjectRef,
    changes: list[Change],
    before: ObjectRef | None,
    emit: Emit,
    *,
    restored: int = 0,
) -> PastRevision:
    """Returns the entry of a new revision. If its changes are too many for the entry itself, `emit` stores
    them."""
    changes = changes[:MAX_CHANGES]
    while len(plain := encode_changes(changes)) > bounds.OBJECT:
        changes = changes[: len(changes) // 2]
    more = ObjectRef(Digest(b""), 0)
    if len(plain) > INLINE:
        more, changes = ref_of(plain), []
        emit(more, plain)
    last = before or ObjectRef(Digest(b""), 0)
    return PastRevision(
        number, time, version, root.digest, root.size, restored, changes, *more, last.digest, last.size
    )


def emit_block(first: int, time: int, content: list[PastRevision] | list[Block], emit: Emit) -> Block:
    """Stores a full block and returns the reference to it that a block of the next level holds."""
    plain = msgspec.msgpack.encode((VERSION, content))
    ref = ref_of(plain)
    emit(ref, plain)
    return Block(first, time, ref.digest, ref.size)


def _optional(digest: bytes, size: int) -> ObjectRef | None:
    return ObjectRef(Digest(digest), size) if digest else None


def _check_below(last: int, below: int) -> None:
    """Raises FormatError unless the revision `last` is lower than `below`. Without this check, blocks that
    name the same blocks repeatedly would give 64 ** 6 revisions for a few hundred objects."""
    if last >= below:
        raise FormatError(f"the block of a history has revision {last}, and the next one begins with {below}")


def check_version(version: int) -> None:
    """Raises FormatError for a history of another format version."""
    if version != VERSION:
        raise FormatError(f"a history of version {version}, not {VERSION}")


def check_entries(entries: list[PastRevision]) -> None:
    """Raises FormatError unless these are consecutive revisions within all bounds."""
    if len(entries) > FANOUT:
        raise FormatError(f"a history of {len(entries)} revisions in one object")
    for before, one in zip([None, *entries], entries, strict=False):
        if before and (one.number != before.number + 1 or one.time < before.time):
            raise FormatError(f"revision {one.number} of a history comes after revision {before.number}")
        if one.number < 1 or one.time < 0:
            raise FormatError(f"a history has revision {one.number} of the time {one.time}")
        _check_ref(one.root_digest, one.root_size)
        for digest, size in ((one.changes_digest, one.changes_size), (one.before_digest, one.before_size)):
            if digest or size:
                _check_ref(digest, size)
        _check_changes(one.changes)


def check_blocks(blocks: list[Block]) -> None:
    """Raises FormatError unless these are blocks in order, within all bounds."""
    if len(blocks) > FANOUT:
        raise FormatError(f"a history of {len(blocks)} blocks in one object")
    for before, one in zip([None, *blocks], blocks, strict=False):
        if one.first < 1 or (before and (one.first <= before.first or one.time < before.time)):
            raise FormatError(f"the block of revision {one.first} of a history is out of order")
        _check_ref(one.digest, one.size)


def _check_changes(changes: list[Change]) -> None:
    if len(changes) > MAX_CHANGES:
        raise FormatError(f"a revision of {len(changes)} changes")
    for one in changes:
        if not 0 < len(one.path) <= bounds.PATH or len(one.old) > SIZE or len(one.new) > SIZE:
            raise FormatError(f"a revision's change of {one.path[:100]!r} is none")


def _check_ref(digest: bytes, size: int) -> None:
    if len(digest) != SIZE or not 0 < size <= bounds.OBJECT:
        raise FormatError(f"a history leads to an object of {size} bytes by a digest of {len(digest)}")
