"""Tar archives as a stream: v7, ustar, pax and GNU headers, sparse files; names and values are bytes.

Reads the archives of Go's archive/tar and GNU tar, and decides like Go's reader where they differ, because
the other unpackers of images are written in Go. Unlike the standard library's tarfile it keeps no list of
members, bounds the headers it reads into memory, and refuses types it does not know.
Format: POSIX.1-1988 and -2001 (ustar, pax), the GNU tar manual's appendix D.
"""

from collections.abc import Callable
from typing import NamedTuple

from lazyfs.core.errors import FormatError
from lazyfs.core.layers import pax
from lazyfs.core.layers.entry_budget import EntryBudget
from lazyfs.core.layers.tar_fields import number, string

BLOCK = 512
MAX_HEADER = 4 << 20
"""The largest number of bytes of one pax header or long name: Linux allows 64 KiB an attribute; Go's reader
takes 1 MiB."""
MAX_SPARSE = 1 << 20
"""The largest number of runs of data in one sparse file."""

FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_CONTIGUOUS = b"7"
_KNOWN = frozenset((FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_ZERO = bytes(BLOCK)
_ID_MAX = (1 << 32) - 2
NOBODY = 65534
"""The owner in place of an invalid id: the kernel's overflow id."""
_SIZE_MAX = (1 << 63) - 1

Read = Callable[[int], bytes]
"""A function that returns as many bytes as it is asked for, fewer only at the end of the stream."""


class Member(NamedTuple):
    """One entry's header, extensions resolved."""

    name: bytes
    kind: bytes
    """FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY or FIFO."""
    mode: int
    """Permission bits, 12 of them."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970."""
    size: int
    """Bytes of the file, with the holes of a sparse file; 0 for everything that is no file."""
    target: bytes
    major: int
    minor: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    stated_uid: int
    """The user id in the header. If it is not valid (negative, or 2^32 - 1 and above), `uid` is 65534."""
    stated_gid: int


class TarReader:
    """Reads an archive: `next` returns its members in order, and `read` the bytes of the current member's
    file."""

    def __init__(self, read: Read, *, need_end: bool = False, budget: EntryBudget | None = None) -> None:
        """With `need_end` an archive without end-of-archive blocks is refused as truncated. Layers are
        checked by their digest instead: they may be empty, or lack these blocks and the padding before them,
        as those of `umoci insert` do. `budget`: that of the archive's image; by default one of its own."""
        self._source = read
        self._budget = budget or EntryBudget()
        self._need_end = need_end
        self._stored = 0  # bytes of the member's data still in the stream
        self._padding = 0
        self._left = 0  # bytes of the expanded file still to be given out
        self._runs: pax.Sparse | None = None  # the runs of a sparse file, the last one first
        self._position = 0
        self._name = b""
        self._empty = True

    def next(self) -> Member | None:
        """Returns the next member, or None at the end of the archive. Raises FormatError."""
        self._skip(self._stored)
        if len(self._source(self._padding)) < self._padding and self._need_end:
            raise FormatError(f"tar archive ends inside {self._name[:200]!r}: is it truncated?")
        self._stored = self._padding = self._left = 0
        records: pax.Records = {}
        runs: pax.Sparse = []
        long_name = long_target = None
        while True:
            header = self._header()
            if header is None:
                if records or long_name or long_target:
                    raise FormatError("tar: an extended header with no entry after it")
                return None
            kind, size = header[156:157], number(header[124:136], "size")
            if kind == b"x":
                records, runs = pax.parse(self._extended(size))
            elif kind == b"g":
                self._extended(size)
            elif kind == b"L":
                long_name = self._extended(size).split(b"\0", 1)[0]
            elif kind == b"K":
                long_target = self._extended(size).split(b"\0", 1)[0]
            else:
                member = self._member(header, records, runs, long_name, long_target)
                self._budget.count_entry(len(member.xattrs))
                return member

    def read(self, count: int) -> bytes:
        """Returns the next `count` bytes of the current member's file, fewer only at its end."""
        count = min(count, self._left)
        self._left -= count
        if self._runs is None:
            self._stored -= count
            return self._exactly(count)
        parts = []
        while count:
            offset, length = self._runs[-1] if self._runs else (self._position + count, 0)
            if self._position < offset:
                take = min(count, offset - self._position)
                parts.append(bytes(take))
            else:
                take = min(count, offset + length - self._position)
                parts.append(self._exactly(take))
                self._stored -= take
            self._position += take
            count -= take
            if self._runs and self._position == offset + length:
                self._runs.pop()
        return b"".join(parts)

    def _header(self) -> bytes | None:
        block = self._source(BLOCK)
        if not block:
            if self._need_end:
                raise FormatError("tar archive ends without its end-of-archive blocks: is it truncated?")
            return None
        if len(block) < BLOCK:
            if self._empty:
                raise FormatError(f"not a tar archive: it has {len(block)} bytes")
            raise FormatError(f"tar archive ends inside a header, after {self._name[:80]!r}")
        if block == _ZERO:
            second = self._source(BLOCK)
            if second not in (_ZERO, b""):
                raise FormatError(f"tar archive goes on after a zero block, after {self._name[:80]!r}")
            return None
        stored = number(block[148:156], "checksum", self._empty)
        # The checksum counts its own field as spaces; some old archivers summed signed bytes.
        unsigned = sum(block) - sum(block[148:156]) + 8 * 32
        if stored != unsigned:
            high = sum(byte >> 7 for byte in block) - sum(byte >> 7 for byte in block[148:156])
            if stored != unsigned - 256 * high:
                if self._empty:
                    raise FormatError("not a tar archive: the first header has a wrong checksum")
                raise FormatError(f"tar header after {self._name[:80]!r} has a wrong checksum")
        self._empty = False
        return block

    def _extended(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:  # base 256 has negative sizes, which would lead back to this header
            raise FormatError(f"tar: extended header of {size} bytes, outside 0 to {MAX_HEADER}")
        self._budget.count_header(size)
        data = self._exactly(size)
        self._skip(-size % BLOCK)
        return data

    def _member(
        self,
        header: bytes,
        records: pax.Records,
        runs: pax.Sparse,
        long_name: bytes | None,
        long_target: bytes | None,
    ) -> Member:
        name, target = string(header[0:100]), string(header[157:257])
        magic = header[257:265]
        if magic[:5] == b"ustar" and magic != b"ustar  \0":
            # star keeps times in the place of the last bytes of ustar's prefix
            prefix = string(header[345:476] if header[508:512] == b"tar\0" else header[345:500])
            if prefix:
                name = prefix + b"/" + name
        name = long_name or records.get(b"path") or name
        name = records.get(b"GNU.sparse.name") or name
        target = long_target or records.get(b"linkpath") or target
        self._name = name
        kind = header[156:157]
        if kind == b"\0":
            kind = DIRECTORY if name.endswith(b"/") else FILE
        elif kind == _CONTIGUOUS:
            kind = FILE
        elif kind not in _KNOWN and kind != b"S":
            raise FormatError(f"tar entry {name[:200]!r} has type {kind!r}, which is not one of images")

        def owner(key: bytes, start: int, end: int) -> int:
            value = records.get(key)
            return pax.identifier(key, value) if value else number(header[start:end], key.decode())

        stated = records.get(b"size")
        size = pax.number(b"size", stated) if stated else number(header[124:136], "size")
        if not 0 <= size <= _SIZE_MAX:
            raise FormatError(f"tar entry {name[:200]!r}: size {size} is out of range")
        size = self._start(header, kind, size, records, runs)
        mtime = records.get(b"mtime")
        device = magic[:5] == b"ustar" and kind in (CHAR, BLOCK_DEVICE)
        uid, gid = owner(b"uid", 108, 116), owner(b"gid", 116, 124)
        return Member(
            name,
            FILE if kind == b"S" else kind,
            number(header[100:108], "mode") & 0o7777,
            uid if 0 <= uid <= _ID_MAX else NOBODY,
            gid if 0 <= gid <= _ID_MAX else NOBODY,
            pax.nanoseconds(b"mtime", mtime) if mtime else number(header[136:148], "mtime") * 1_000_000_000,
            size,
            target if kind in (HARDLINK, SYMLINK) else b"",
            number(header[329:337], "devmajor") if device else 0,
            number(header[337:345], "devminor") if device else 0,
            pax.xattrs(records),
            uid,
            gid,
        )

    def _start(self, header: bytes, kind: bytes, stored: int, records: pax.Records, runs: pax.Sparse) -> int:
        """Prepares reading of the member's data; returns the size of its file, holes included. `stored`:
        bytes of the data in the archive. `records`, `runs`: those of its pax header."""
        if kind not in (FILE, b"S"):
            return 0  # these types may state a size (old hard links do), but have no data
        self._stored, self._padding, self._position = stored, -stored % BLOCK, 0
        self._runs, size = None, stored
        if kind == b"S":
            self._runs = self._old_sparse(header)
            size = number(header[483:495], "real size")
        elif records.get(b"GNU.sparse.major") == b"1":
            size = pax.number(b"GNU.sparse.realsize", records.get(b"GNU.sparse.realsize", b""))
            self._runs = self._sparse_in_data()
        elif b"GNU.sparse.map" in records or runs:
            size = pax.number(b"GNU.sparse.size", records.get(b"GNU.sparse.size", b""))
            self._runs = runs or pax.sparse_map(records[b"GNU.sparse.map"])
        if not 0 <= size <= _SIZE_MAX:
            raise FormatError(f"sparse file {self._name[:200]!r}: size {size} is out of range")
        if self._runs is not None:
            pax.check_sparse(self._runs, size)
            self._runs = [run for run in reversed(self._runs) if run[1]]
            if sum(length for _, length in self._runs) != self._stored:
                raise FormatError(f"sparse file {self._name[:200]!r}: its map and its data differ in length")
        self._left = size
        return size

    def _old_sparse(self, header: bytes) -> pax.Sparse:
        table, more = header[386:482], header[482]
        runs: pax.Sparse = []
        for _ in range(MAX_SPARSE // 21 + 2):  # blocks of 21 runs each, after a header with 4
            for start in range(0, len(table) - 23, 24):
                field = table[start : start + 24]
                if field[0] == 0:
                    break
                runs.append((number(field[:12], "offset"), number(field[12:], "length")))
            if not more:
                return runs
            block = self._exactly(BLOCK)
            table, more = block[:504], block[504]
        raise FormatError(f"sparse file {self._name[:200]!r} has over {MAX_SPARSE} parts")

    def _sparse_in_data(self) -> pax.Sparse:
        """Returns the sparse map of an entry in GNU's format 1.0, where it stands before the data: decimal
        numbers, one a line, in blocks of their own."""
        buffer = b""

        def line() -> int:
            nonlocal buffer
            while b"\n" not in buffer:
                if self._stored < BLOCK or len(buffer) > BLOCK:
                    raise FormatError(f"sparse file {self._name[:200]!r}: its map is cut off")
                buffer += self._exactly(BLOCK)
                self._stored -= BLOCK
            text, buffer = buffer.split(b"\n", 1)
            return pax.number(b"sparse map", text)

        count = line()
        if count > MAX_SPARSE:
            raise FormatError(f"sparse file {self._name[:200]!r} has {count} parts, over {MAX_SPARSE}")
        return [(line(), line()) for _ in range(count)]

    def _exactly(self, count: int) -> bytes:
        data = self._source(count)
        if len(data) < count:
            raise FormatError(f"tar archive ends inside {self._name[:200]!r}: is it truncated?")
        return data

    def _skip(self, count: int) -> None:
        while count > 0:
            count -= len(self._exactly(min(count, 1 << 20)))
