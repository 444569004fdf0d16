"""Stored objects: one zstd frame (RFC 8878) with its content size; opened with bounded memory."""

from collections import deque
from collections.abc import Callable

import zstandard

from lazyfs.core.digest import ObjectRef, check
from lazyfs.core.errors import FormatError
from lazyfs.core.zstd_blocks import MOST_HEADER, Blocks

LEVEL = 6
"""Default level of zstd. What is published once is fetched many times, and a higher level slows nobody who
reads. Of chunks of libraries, level 3 leaves 0.280 of the bytes, 5 0.271, 6 0.265, 7 0.264, 9 0.262 and 15
0.260, in 3.2, 6.3, 8.2, 9.5, 13.9 and 84 ms of processor time for each MB."""

AT_ONCE = 3 << 19
"""The largest number of plaintext bytes that are decoded in one call, which takes 2 ms. A larger object, or a
frame that is longer than its plaintext needs, is decoded block by block."""

MAX_WINDOW = 1 << 27
"""The largest number of bytes of history that a frame may ask the reader to hold. zstd's format wants at
least 8 MiB of every reader; publishers at level 19 with long files reach 128 MiB."""

_idle: deque[zstandard.ZstdDecompressor] = deque(maxlen=4)
"""Idle decompressors, kept for reuse."""

Check = Callable[[], None]
"""A function that is called between two pieces of work. It raises an exception when no caller waits for the
result any more."""


def unhurried() -> None:
    """Does nothing: the `check_left` for callers that always wait for the result."""


def encode(plain: bytes, level: int = LEVEL) -> bytes:
    """Returns one zstd frame that carries its content size and no checksum (the digest is one)."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(
        plain
    )


def frame_bound(size: int) -> int:
    """Returns the largest number of bytes that a frame of `size` plaintext bytes may take: ZSTD_compressBound
    plus a frame header."""
    return size + (size >> 8) + 1024


def decode(frame: bytes, size: int, check_left: Check = unhurried) -> bytes:
    """Returns the plaintext of one frame whose size is known beforehand.

    Never allocates more than `size` bytes and one block. The header is read first: if it states a size,
    zstandard ignores `max_output_size`. `check_left` is called after each block, or after a small frame; its
    exceptions are passed on. Raises FormatError for a header with another size or none, an oversized window,
    and bytes after the frame.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        blocks = Blocks(frame[:MOST_HEADER])
    except zstandard.ZstdError as error:
        raise FormatError(f"not a zstd frame: {error}") from None
    if parameters.content_size != size:
        raise FormatError(f"zstd frame claims {parameters.content_size} bytes instead of {size}")
    if parameters.window_size > MAX_WINDOW:
        raise FormatError(f"zstd frame wants a window of {parameters.window_size} bytes, over {MAX_WINDOW}")
    if parameters.dict_id:
        raise FormatError(f"zstd frame wants dictionary {parameters.dict_id}")
    if size <= AT_ONCE and len(frame) <= frame_bound(size):
        plain = _decode_at_once(frame, size)
        if plain is not None:
            check_left()
            return plain
    return _decode_in_pieces(frame, size, blocks, check_left)


def _decode_at_once(frame: bytes, size: int) -> bytes | None:
    """Returns the plaintext of a small frame; None for a bad one, whose fault is found by decoding block by
    block."""
    # A decompressor belongs to one thread at a time; making one takes a fifth of a small object's time.
    decompressor = _idle.pop() if _idle else zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    try:
        plain = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
    finally:
        _idle.append(decompressor)
    return plain if len(plain) == size else None


def _decode_in_pieces(frame: bytes, size: int, blocks: Blocks, check_left: Check) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    parts: list[bytes] = []
    got = fed = 0
    try:
        for piece in blocks.cut(memoryview(frame)):
            if reader.eof:
                break
            part = reader.decompress(piece)
            fed += len(piece)
            got += len(part)
            if got > size:
                raise FormatError(f"zstd frame holds more than the {size} bytes it claims")
            parts.append(part)
            check_left()
    except zstandard.ZstdError as error:
        raise FormatError(f"bad zstd frame: {error}") from None
    if not reader.eof or got != size:
        raise FormatError(f"zstd frame ends after {got} of {size} bytes")
    if after := len(reader.unused_data) + len(frame) - fed:
        raise FormatError(f"{after} bytes after the zstd frame")
    return b"".join(parts)


def open_object(frame: bytes, ref: ObjectRef, check_left: Check = unhurried) -> bytes:
    """Decodes and verifies a frame: returns the plaintext of `ref`. Raises FormatError, DigestMismatch, and
    the exceptions of `check_left`."""
    return check(decode(frame, ref.size, check_left), ref)
