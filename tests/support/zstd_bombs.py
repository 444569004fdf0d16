"""zstd frames that no compressor writes: a few bytes that expand to many."""

import struct
import tracemalloc
from collections.abc import Callable

BLOCK = 128 << 10
"""Bytes that one block may expand to."""


def rle_bomb(blocks: int, claimed: int) -> bytes:
    """Returns a frame whose header claims `claimed` bytes of content and a window of 1 MiB. Its blocks, of
    four bytes each, expand to `blocks` times 128 KiB. (If the window had the claimed size, zstd itself would
    refuse the frame.)"""
    header = b"\x28\xb5\x2f\xfd" + bytes([0x80, (20 - 10) << 3]) + struct.pack("<I", claimed)
    return header + _block(1, BLOCK, b"\0") * blocks + _block(1, 1, b"\0", last=True)


def empty_blocks(count: int, content: bytes) -> bytes:
    """Returns a valid frame of this content that begins with `count` empty blocks."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0x80, (20 - 10) << 3]) + struct.pack("<I", len(content))
    return header + _block(0, 0, b"") * count + _block(0, len(content), content, last=True)


def _block(kind: int, size: int, body: bytes, *, last: bool = False) -> bytes:
    return (size << 3 | kind << 1 | int(last)).to_bytes(3, "little") + body


def peak_of(call: Callable[[], object]) -> int:
    """Returns the peak of memory in bytes that Python's allocator gives out during the call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
