"""The ends of a zstd frame's blocks (RFC 8878, 3.1.1), so that it can be decoded one block at a time.

The output of one call of the zstd library is bounded only by its input, and a block of four bytes may stand
for 128 KiB: 80 KB of such blocks are 2.5 GB. Between two blocks the reader can count, look at its deadline
and stop.
"""

from collections.abc import Iterator

import zstandard

STEP = 1 << 16
"""The largest size of a piece in bytes: a longer block is handed on in several pieces, and so is a long run
of empty blocks."""

MOST_HEADER = 18
"""The largest number of bytes of a frame header; this many always show the header's own length."""
_RLE = 1
_RESERVED = 3


class Blocks:
    """Cuts the bytes of one frame, however they arrive, so that no piece holds the ends of two blocks with
    content. The bytes after the last block are one piece. Nothing is checked here: the decoder does that."""

    def __init__(self, head: bytes) -> None:
        """Raises zstandard.ZstdError for bytes that are not a frame. `head`: the first MOST_HEADER bytes of
        the frame, or all if it has fewer."""
        self._left = zstandard.frame_header_size(head)
        """Bytes until the next block header."""
        self._field = b""
        """The bytes of the next block header so far."""
        self._last = False

    def cut(self, data: memoryview) -> Iterator[memoryview]:
        """Yields the next bytes of the frame, cut into pieces; nothing is held back between two calls."""
        start = position = 0
        while position < len(data):
            if position - start >= STEP:
                yield data[start:position]
                start = position
            elif self._left:
                step = min(self._left, len(data) - position, STEP - (position - start))
                self._left -= step
                position += step
                if not self._left:
                    yield data[start:position]
                    start = position
            elif self._last:
                break
            else:
                self._field += data[position : position + 1]
                position += 1
                if len(self._field) == 3:
                    self._block(int.from_bytes(self._field, "little"))
        for rest in range(start, len(data), STEP):
            yield data[rest : rest + STEP]

    def _block(self, field: int) -> None:
        kind, size = field >> 1 & 3, field >> 3
        self._field = b""
        self._last = bool(field & 1) or kind == _RESERVED  # the decoder refuses the bytes that follow
        self._left = 1 if kind == _RLE else size
