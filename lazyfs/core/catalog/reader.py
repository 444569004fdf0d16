"""Answers from one catalog's bytes; each directory is decoded when it is first touched."""

import sys
from array import array
from bisect import bisect_right

import msgspec

from lazyfs.core.catalog.entry import NESTED, Entry, check_entry, check_name
from lazyfs.core.catalog.layout import COLUMNS, MAGIC, MAX_SIZE, PREFIX, VERSION, Header
from lazyfs.core.errors import FormatError

_header = msgspec.msgpack.Decoder(Header)
_entries = msgspec.msgpack.Decoder(list[Entry])


class Directory:
    """The entries of one directory of a catalog, sorted by name."""

    __slots__ = ("_positions", "entries", "first", "number", "parent")

    def __init__(self, number: int, parent: int, first: int, entries: list[Entry]) -> None:
        self.number = number
        self.parent = parent
        """Number of the parent directory; its own for directory 0."""
        self.first = first
        """Catalog index of the first entry; entry i of this directory has index first + i."""
        self.entries = entries
        self._positions = {entry.name: position for position, entry in enumerate(entries)}

    def index(self, name: bytes) -> int:
        """The catalog index of the entry with this name, or -1."""
        position = self._positions.get(name, -1)
        return position if position < 0 else self.first + position

    def find(self, name: bytes) -> Entry | None:
        """The entry with this name."""
        position = self._positions.get(name)
        return None if position is None else self.entries[position]


class Catalog:
    """A parsed catalog over its encoded bytes. A wrong byte raises FormatError, at the latest when the
    directory that holds it is touched."""

    def __init__(self, encoded: bytes) -> None:
        if len(encoded) < PREFIX.size or len(encoded) > MAX_SIZE:
            raise FormatError(f"a catalog of {len(encoded)} bytes is shorter than its prefix or too long")
        magic, version, header_length, directories, entries = PREFIX.unpack_from(encoded)
        self._count: int = directories
        self.entries: int = entries
        if magic != MAGIC or version != VERSION:
            raise FormatError(f"not a catalog of version {VERSION}: it begins with {encoded[:8]!r}")
        table_start = PREFIX.size + header_length
        self._blobs = table_start + 4 * COLUMNS * self._count
        if not self._count or self._blobs > len(encoded):
            raise FormatError(f"catalog of {self._count} directories does not fit its {len(encoded)} bytes")
        try:
            self.header: Header = _header.decode(encoded[PREFIX.size : table_start])
        except msgspec.MsgspecError as error:
            raise FormatError(f"bad catalog header: {error}") from None
        if not self.header.root.is_dir:
            raise FormatError(
                f"catalog hangs at something of mode {self.header.root.mode:o}, not a directory"
            )
        columns = array("I", encoded[table_start : self._blobs])
        if sys.byteorder == "big":
            columns.byteswap()
        size = self._count
        self._offsets, self._lengths = columns[:size], columns[size : 2 * size]
        self._firsts, self._owns = columns[2 * size : 3 * size], columns[3 * size : 4 * size]
        self._parents = columns[4 * size :]
        if self._firsts[0] != 1 or list(self._firsts) != sorted(self._firsts):
            raise FormatError("the directories of a catalog are out of order")
        self._encoded = encoded
        self._directories: dict[int, Directory] = {}

    @property
    def root(self) -> Entry:
        """The directory the catalog hangs at; index 0."""
        return self.header.root

    @property
    def directories(self) -> int:
        """The number of directories in this catalog."""
        return self._count

    def directory(self, number: int) -> Directory:
        """Directory `number`, decoded once. Raises FormatError if the bytes are not a directory's."""
        found = self._directories.get(number)
        if found is None:
            found = self._directories[number] = self._decode(number)
        return found

    def _decode(self, number: int) -> Directory:
        if not 0 <= number < self._count:
            raise FormatError(f"catalog has no directory {number}, only {self._count}")
        start = self._blobs + self._offsets[number]
        end = start + self._lengths[number]
        first = self._firsts[number]
        after = self._firsts[number + 1] if number + 1 < self._count else self.entries
        parent = self._parents[number]
        if end > len(self._encoded) or parent > number or (number and parent == number):
            raise FormatError(f"directory {number} of a catalog lies outside it")
        try:
            entries = _entries.decode(self._encoded[start:end])
        except msgspec.MsgspecError as error:
            raise FormatError(f"bad directory {number} of a catalog: {error}") from None
        if len(entries) != after - first:
            raise FormatError(f"directory {number} has {len(entries)} entries instead of {after - first}")
        previous = b""
        for entry in entries:
            if entry.name <= previous:
                raise FormatError(f"directory {number}: {entry.name!r} after {previous!r}")
            previous = entry.name
            check_name(previous)
            check_entry(entry)
            if entry.is_dir and not entry.flags & NESTED and not number < entry.detail < self._count:
                raise FormatError(f"directory {number}: {entry.name!r} leads to directory {entry.detail}")
        return Directory(number, parent, first, entries)

    def entry(self, index: int) -> Entry:
        """The entry with this index; 0 is the root. Raises FormatError if there is none."""
        if index == 0:
            return self.header.root
        directory = self.directory(self.container(index))
        return directory.entries[index - directory.first]

    def container(self, index: int) -> int:
        """The number of the directory that holds the entry with this index."""
        if not 0 < index < self.entries:
            raise FormatError(f"catalog has no entry {index}, only {self.entries}")
        return bisect_right(self._firsts, index) - 1

    def own_index(self, number: int) -> int:
        """The index of the entry that is directory `number`."""
        if not 0 <= number < self._count:
            raise FormatError(f"catalog has no directory {number}, only {self._count}")
        return self._owns[number]

    def path(self, index: int) -> bytes:
        """The path of an entry below the catalog's root; empty for the root."""
        names = []
        while index:
            number = self.container(index)
            names.append(self.entry(index).name)
            index = self._owns[number]
            if len(names) > self._count:
                raise FormatError("directories of a catalog contain one another")
        return b"/".join(reversed(names))
