"""Bytes on their way from a source to the tar reader: they are hashed, decompressed if their first bytes are
those of gzip or zstd, and read in pieces of exact sizes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import zstandard
from isal import isal_zlib

from lazyfs.core.codec import MAX_WINDOW
from lazyfs.core.digest import Digest
from lazyfs.core.errors import FormatError
from lazyfs.core.zstd_blocks import MOST_HEADER, Blocks

PART = 1 << 20
"""Bytes taken from a file or socket at a time."""
_PIECE = 16 << 10
"""Bytes decompressed at a time."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip"}


def parts_of(file: BinaryIO) -> Iterator[bytes]:
    """Yields the bytes of a file from its current position to its end."""
    while part := file.read(PART):
        yield part


class Hashed:
    """Passes parts on and keeps their hash and count."""

    def __init__(self, parts: Iterable[bytes], advance: Callable[[int], None] = lambda _count: None) -> None:
        self._parts = iter(parts)
        self._advance = advance
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._hash.update(part)
            self.size += len(part)
            self._advance(len(part))
            yield part

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.digest())


def is_compressed(head: bytes) -> bool:
    """Returns True if a stream that begins so is one that `decompressed` decompresses or refuses."""
    return head.startswith((_GZIP, _ZSTD, *_SKIPPABLE, *_OTHERS))


def decompressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the plain bytes of a gzip (several members), zstd (several frames) or plain stream. Its first
    bytes show which of them it is.

    Gzip output is taken in steps, because a part of PART bytes may expand to 1 GiB. Raises FormatError for a
    stream that is cut off or damaged.
    """
    source = iter(parts)
    head = b""
    for part in source:
        head += part
        if len(head) >= 6:
            break
    if head.startswith(_GZIP):
        yield from _gunzip(_cut(chain((head,), source)))
    elif head.startswith((_ZSTD, *_SKIPPABLE)):
        yield from _unzstd(_cut(chain((head,), source)))
    else:
        for magic, kind in _OTHERS.items():
            if head.startswith(magic):
                raise FormatError(f"compressed with {kind}: only gzip and zstd are read; recompress it")
        if head:
            yield head
        yield from source


def _cut(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the bytes in pieces of _PIECE at most. Small pieces keep copying cheap: the end of each member
    or frame copies the rest of its piece, and a part of 1 MiB may hold 50,000 empty members."""
    for part in parts:
        for start in range(0, len(part), _PIECE):
            yield part[start : start + _PIECE]


def _gunzip(source: Iterator[bytes]) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(31)
    data = next(source)
    try:
        while True:
            while data:
                if member.eof:
                    if not data.strip(b"\0"):  # padding that some archivers put after the last member
                        data = b""
                        break
                    member = isal_zlib.decompressobj(31)
                out = member.decompress(data, PART)
                if out:
                    yield out
                data = member.unused_data if member.eof else member.unconsumed_tail
            while not member.eof and (out := member.decompress(b"", PART)):
                yield out
            following = next(source, None)
            if following is None:
                break
            data = following
    except isal_zlib.error as error:  # type: ignore[misc] # the stubs make it a variable
        raise FormatError(f"damaged gzip data: {error}") from None
    if not member.eof:
        raise FormatError("gzip data ends before its end: is it truncated?")


def _unzstd(source: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    pending = next(source)
    while pending or (pending := next(source, b"")):
        while len(pending) < MOST_HEADER and (part := next(source, b"")):
            pending += part
        frame = _Frame(decompressor, pending, source)
        yield from frame
        pending = frame.rest


class _Frame:
    """One zstd frame; `rest` holds the bytes read beyond its end."""

    def __init__(
        self, decompressor: zstandard.ZstdDecompressor, head: bytes, source: Iterator[bytes]
    ) -> None:
        self._decompressor = decompressor
        self._head = head
        self._source = source
        self.rest = b""

    def __iter__(self) -> Iterator[bytes]:
        if self._head.startswith(_SKIPPABLE):
            self._skip()
            return
        try:
            blocks = Blocks(self._head[:MOST_HEADER])
            frame = self._decompressor.decompressobj()
            data = self._head
            while True:
                fed = 0
                for piece in blocks.cut(memoryview(data)):  # one call gives back one block at most
                    out = frame.decompress(piece)
                    fed += len(piece)
                    if out:
                        yield out
                    if frame.eof:
                        self.rest = frame.unused_data + data[fed:]
                        return
                following = next(self._source, None)
                if following is None:
                    raise FormatError("zstd data ends before its end: is it truncated?")
                data = following
        except zstandard.ZstdError as error:
            raise FormatError(f"damaged zstd data: {error}") from None

    def _skip(self) -> None:
        left = 8 + int.from_bytes(self._head[4:8], "little")
        data = self._head
        while len(data) <= left:
            left -= len(data)
            data = next(self._source, b"")
            if not data:
                if left:
                    raise FormatError("zstd data ends inside a skippable frame: is it truncated?")
                return
        self.rest = data[left:]


class ExactReader:
    """Reads exact counts out of parts of any size."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._buffer = b""
        self._position = 0

    def read(self, count: int) -> bytes:
        """Returns `count` bytes, fewer only at the end."""
        end = self._position + count
        if end <= len(self._buffer):
            data = self._buffer[self._position : end]
            self._position = end
            return data
        pieces = [self._buffer[self._position :]]
        missing = count - len(pieces[0])
        self._buffer, self._position = b"", 0
        while missing > 0:
            part = next(self._parts, None)
            if part is None:
                break
            if len(part) > missing:
                self._buffer, self._position = part, missing
                part = part[:missing]
            missing -= len(part)
            pieces.append(part)
        return b"".join(pieces)

    def skip_rest(self) -> None:
        """Skips everything up to the end."""
        self._buffer, self._position = b"", 0
        for _ in self._parts:
            pass
