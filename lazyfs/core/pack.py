"""Packs: objects whose plaintext is the contents of small files, one after another.

A publisher gathers the small files of a layer in the order of its archive, each content once, and a `Cutter`
says where a pack ends. A file is then a slice of a pack. Catalogs name packs by their number in a
`PackTable`, so that a file's entry needs eight bytes for its place instead of forty.
"""

import struct
from collections.abc import Iterable

from lazyfs.core import bounds
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError

_ROW = struct.Struct("<32sI")
_DIGEST_BITS = 64
"""Number of leading bits of a file's digest that decide if a pack may be cut after the file."""


class Cutter:
    """Says where the packs of one layer are cut. Each layer begins with a new Cutter.

    Packs are cut after files that are chosen by their content, so an inserted or changed file moves only the
    cuts nearby. Sizes and digests of the files decide, and nothing else: not the compressor, not the time,
    not the other layers. A file is chosen with a probability in proportion to its size, so the mean size of
    packs is the target whether files are small or large.
    """

    def __init__(self, least: int, target: int, most: int) -> None:
        """Sizes of packs in plaintext bytes: no cut is chosen below `least`, the mean is about `target`, and
        no pack has more than `most`."""
        self._least = least
        self._most = most
        self._range = max(target - least, 1)
        self._size = 0

    def begins(self, size: int) -> bool:
        """Returns True if the next file, of `size` bytes, must begin a pack because it would make the present
        one too large."""
        if self._size and self._size + size > self._most:
            self._size = 0
            return True
        return False

    def ends(self, size: int, digest: Digest) -> bool:
        """Takes the next file. Returns True if the pack ends after this file."""
        self._size += size
        chosen = int.from_bytes(digest[: _DIGEST_BITS >> 3]) * self._range < size << _DIGEST_BITS
        if self._size >= self._most or (chosen and self._size >= self._least):
            self._size = 0
            return True
        return False


class PackTable:
    """The packs of a catalog's entries, by number. It reads encoded rows of 36 bytes: a pack's digest and its
    plaintext size."""

    __slots__ = ("encoded",)

    def __init__(self, encoded: bytes) -> None:
        """Raises FormatError for rows that are cut off, too many rows, and a pack of an impossible size."""
        if len(encoded) % _ROW.size or len(encoded) > bounds.PACKS * _ROW.size:
            raise FormatError(f"a table of packs has {len(encoded)} bytes")
        for _, size in _ROW.iter_unpack(encoded):
            if not 0 < size <= bounds.PACK:
                raise FormatError(f"a pack of {size} bytes is outside 1 to {bounds.PACK}")
        self.encoded = encoded

    @staticmethod
    def of(packs: Iterable[ObjectRef]) -> "PackTable":
        """Returns the table of these packs, in this order. Raises FormatError for a table that no reader
        takes."""
        packs = list(packs)
        for pack in packs:
            if not 0 < pack.size <= bounds.PACK:
                raise FormatError(f"a pack of {pack.size} bytes is outside 1 to {bounds.PACK}")
        if len(packs) > bounds.PACKS:
            raise FormatError(f"a catalog names {len(packs)} packs; readers take {bounds.PACKS} at most")
        return PackTable(b"".join(_ROW.pack(*pack) for pack in packs))

    def __len__(self) -> int:
        return len(self.encoded) // _ROW.size

    def __getitem__(self, number: int) -> ObjectRef:
        """Returns the pack with this number. Raises FormatError if there is none."""
        if not 0 <= number < len(self):
            raise FormatError(f"there is no pack {number}, only {len(self)}")
        digest, size = _ROW.unpack_from(self.encoded, number * _ROW.size)
        return ObjectRef(Digest(digest), size)


NO_PACKS = PackTable(b"")
