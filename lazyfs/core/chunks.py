"""Chunk lists: the object that names a large file's chunks, in order.

Layout: magic `LZFC`, chunk size as a power of two (u8), three zero bytes, file size (u64, little-endian),
then one 32-byte digest per chunk. Every chunk but the last has the full chunk size, so a reader knows the
plaintext sizes of the list and of each chunk before it fetches them.
"""

import struct

from lazyfs.core import bounds
from lazyfs.core.digest import SIZE, Digest, ObjectRef, ObjectSlice
from lazyfs.core.errors import FormatError

MAGIC = b"LZFC"
MIN_SHIFT, MAX_SHIFT = 12, bounds.MAX_SHIFT
"""Chunk sizes from 4 KiB (tests) to 16 MiB."""

_HEADER = struct.Struct("<4sB3xQ")


def chunk_count(size: int, shift: int) -> int:
    """Returns the number of chunks of 2**shift bytes that hold `size` bytes."""
    return -(-size >> shift)


def list_size(size: int, shift: int) -> int:
    """Returns the plaintext size of the chunk list of a file of `size` bytes, cut into chunks of 2**shift
    bytes."""
    return _HEADER.size + SIZE * chunk_count(size, shift)


class ChunkList:
    """A parsed chunk list over its encoded bytes, which are not copied."""

    def __init__(self, encoded: bytes, size: int, shift: int) -> None:
        """Raises FormatError unless `encoded` is the chunk list of a file of `size` bytes whose chunks have
        2**shift bytes each, or fewer for the last one."""
        if len(encoded) < _HEADER.size:
            raise FormatError(f"chunk list of {len(encoded)} bytes is shorter than its header")
        magic, own_shift, own_size = _HEADER.unpack_from(encoded)
        if magic != MAGIC or encoded[5:8] != b"\0\0\0":
            raise FormatError("chunk list without its magic")
        if (own_shift, own_size) != (shift, size):
            raise FormatError(
                f"chunk list is for {own_size} bytes in 2**{own_shift}, not {size} in 2**{shift}"
            )
        if not MIN_SHIFT <= shift <= MAX_SHIFT:
            raise FormatError(f"chunk size 2**{shift} is outside 2**{MIN_SHIFT} to 2**{MAX_SHIFT}")
        if chunk_count(size, shift) > bounds.CHUNKS:
            raise FormatError(f"chunk list of {chunk_count(size, shift)} chunks, over {bounds.CHUNKS}")
        if len(encoded) != list_size(size, shift):
            raise FormatError(f"chunk list has {len(encoded)} bytes instead of {list_size(size, shift)}")
        self._encoded = encoded
        self.size = size
        self.shift = shift

    @classmethod
    def of(cls, digests: bytes, size: int, shift: int) -> "ChunkList":
        """Returns the list of a file of `size` bytes, cut into chunks of 2**shift bytes. `digests`: those of
        the chunks, one after another. Raises FormatError if the digests do not fit the size, or if a number
        is beyond the bounds of the format."""
        return cls(_HEADER.pack(MAGIC, shift, size) + digests, size, shift)

    @property
    def encoded(self) -> bytes:
        """The plaintext of the list."""
        return self._encoded

    @staticmethod
    def encode(digests: list[Digest], size: int, shift: int) -> bytes:
        """Returns the plaintext of the list; raises ValueError if the count of digests does not fit the
        size."""
        if len(digests) != chunk_count(size, shift):
            raise ValueError(f"{len(digests)} digests for {chunk_count(size, shift)} chunks")
        return _HEADER.pack(MAGIC, shift, size) + b"".join(digests)

    def __len__(self) -> int:
        return chunk_count(self.size, self.shift)

    def chunk(self, index: int) -> ObjectRef:
        """Returns the name and plaintext size of one chunk."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = _HEADER.size + SIZE * index
        size = min(1 << self.shift, self.size - (index << self.shift))
        return ObjectRef(Digest(self._encoded[start : start + SIZE]), size)

    def slices(self, offset: int, length: int) -> list[ObjectSlice]:
        """Returns the parts of chunks that hold bytes [offset, offset + length) of the file, cut at its
        end."""
        end = min(offset + length, self.size)
        result = []
        while offset < end:
            index = offset >> self.shift
            start = offset - (index << self.shift)
            ref = self.chunk(index)
            take = min(ref.size - start, end - offset)
            result.append(ObjectSlice(ref, start, take))
            offset += take
        return result
