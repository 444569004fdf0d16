"""Reads an archive in one pass: its entries become records, the contents of its files become objects."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from lazyfs.core.digest import Digest
from lazyfs.core.errors import BadData, DigestMismatch, FormatError
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.record import Kind, Record, clamped, from_member
from lazyfs.core.layers.tar import FILE, Member, TarReader
from lazyfs.images.streams import ExactReader, Hashed, decompressed
from lazyfs.store.layer_files import Read


class LayerLimits(NamedTuple):
    """The bounds of one archive; a larger one is a mistake or a decompression bomb."""

    bytes: int = 1 << 40
    """Expanded bytes, holes of sparse files included."""
    ratio: int = 1100
    """The largest ratio of expanded bytes to the size of the whole archive; checked once the expanded bytes
    exceed `free`. Deflate reaches 1032 on zeros, zstd 15,000, holes any number; real layers stay far
    below."""
    free: int = 4 << 30

    def check(self, expanded: int, stored: int) -> None:
        """Raises FormatError if an archive of `stored` bytes must not expand to `expanded` bytes."""
        if expanded > self.bytes:
            raise FormatError(f"expands to over {self.bytes} bytes")
        if expanded > self.free and expanded > self.ratio * max(stored, 1):
            raise FormatError(f"{stored} bytes expand to over {expanded}: a decompression bomb?")


class Blob(NamedTuple):
    """The facts of an archive that are known before it is read."""

    name: str
    """The archive's name in messages."""
    size: int
    digest: Digest | None = None
    diff_id: Digest | None = None
    """Digest of the decompressed bytes."""
    streamed: bool = False
    """True if `size` is not known because the bytes come through a pipe."""
    whiteouts: bool = True
    """False if names that begin with `.wh.` are ordinary files, because the archive is not a layer."""


class Files(Protocol):
    """Takes the contents of one archive's files, in the order of the archive: `store.LayerFiles`, or a
    directory."""

    def add(self, record: Record, read: Read) -> None:
        """Takes `record.size` bytes from `read`, and sets the record's content now or later."""
        ...

    def end(self) -> None:
        """Called when the archive has ended."""
        ...


def read_layer(
    blob: Blob,
    parts: Iterable[bytes],
    files: Files,
    *,
    limits: LayerLimits = LayerLimits(),  # noqa: B008 - immutable
    budget: EntryBudget | None = None,
    advance: Callable[[int], None] = lambda _count: None,
    note: Callable[[str], None] = lambda _message: None,
) -> list[Record]:
    """Reads an archive to its end and returns its records. The contents of records that `files` sets later,
    as LayerFiles does for a full pack, are not set yet.

    `budget`: that of the image whose layers are read; by default one of the archive's own. Verifies digest,
    size and diff_id, as far as `blob` has them. Calls `note` with one line if entries have values that
    records cannot keep. Raises DigestMismatch or FormatError with the blob's name; the objects stored until
    then are garbage that no catalog names.
    """
    raw = Hashed(parts, advance)

    def stored() -> int:
        return raw.size if blob.streamed else blob.size

    plain = Hashed(expanded(_bounded(raw, blob), limits, stored))
    stream = ExactReader(plain)
    records: list[Record] = []
    clamps = Clamps()
    size = 0
    try:
        need_end = not blob.whiteouts and blob.digest is None
        reader = TarReader(stream.read, need_end=need_end, budget=budget)
        while (member := reader.next()) is not None:
            record = from_member(member, whiteouts=blob.whiteouts)
            clamps.look(member, record)
            size += member.size  # for a sparse file more than its bytes in the archive
            limits.check(size, stored())
            if member.kind == FILE and record.kind == Kind.INODE:
                files.add(record, reader.read)
            records.append(record)
        stream.skip_rest()
        for _ in raw:  # bytes that the decompressor did not read still count for the digest
            pass
    except BadData as error:
        raise type(error)(f"{blob.name}: {error}") from None
    files.end()
    _compare(blob.name, "digest", raw.digest, blob.digest)
    if not blob.streamed and raw.size != blob.size:
        raise DigestMismatch(f"{blob.name}: {raw.size} bytes instead of {blob.size}")
    _compare(blob.name, "diff_id (digest of the decompressed bytes)", plain.digest, blob.diff_id)
    if message := clamps.summary():
        note(f"{blob.name}: {message}")
    return records


def expanded(parts: Iterable[bytes], limits: LayerLimits, stored: Callable[[], int]) -> Iterator[bytes]:
    """Yields the decompressed bytes of an archive: contents, headers, padding. Raises FormatError as soon as
    they are too many. `stored` returns the archive's size, as far as it is known."""
    size = 0
    for part in decompressed(parts):
        size += len(part)
        limits.check(size, stored())
        yield part


class Clamps:
    """Counts the entries that have values which a record cannot keep, and remembers the first such entry."""

    def __init__(self) -> None:
        self._count = 0
        self._first = ""

    def look(self, member: Member, record: Record) -> None:
        """Compares an entry with the record made of it, and counts the entry if the record lacks one of its
        values."""
        change = clamped(member, record)
        if change:
            self._count += 1
            self._first = self._first or f"{member.name[:200]!r}: {change}"

    def summary(self) -> str | None:
        """Returns one line about the values not kept; None if every value was kept."""
        more = f", and {self._count - 1} more" if self._count > 1 else ""
        return f"{self._first}{more}" if self._count else None


def _bounded(raw: Iterable[bytes], blob: Blob) -> Iterator[bytes]:
    """Yields the parts unchanged. Raises DigestMismatch once they have more bytes than the blob's size."""
    got = 0
    for part in raw:
        got += len(part)
        if not blob.streamed and got > blob.size:
            raise DigestMismatch(f"more than the {blob.size} bytes its manifest states")
        yield part


def _compare(name: str, what: str, found: Digest, expected: Digest | None) -> None:
    if expected is not None and found != expected:
        raise DigestMismatch(f"{name}: {what} is sha256:{found.hex()}, expected sha256:{expected.hex()}")
