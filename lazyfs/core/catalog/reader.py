"""Answers from one catalog's bytes; each directory is decoded when it is first touched."""

import sys
from array import array
from bisect import bisect_right

import msgspec

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import NESTED, Entry, check_entry, check_name
from lazyfs.core.catalog.layout import COLUMNS, MAGIC, MAX_SIZE, PREFIX, READABLE, Header
from lazyfs.core.errors import FormatError
from lazyfs.core.pack import PackTable

_header = msgspec.msgpack.Decoder(Header)
_entries = msgspec.msgpack.Decoder(list[Entry])
_encoded_entries = msgspec.msgpack.Decoder(list[msgspec.Raw])
_entry = msgspec.msgpack.Decoder(Entry)

_AT_ONCE = 1024
"""The largest number of entries of a directory that are decoded in one call. No other thread of the
interpreter runs during a call, and 131,072 entries would take 30 ms. Larger directories are first cut into
encoded entries (8 ms for 131,072)."""

ENTRY_MEMORY = 260
"""Bytes that a decoded entry takes without its values, by measurement."""
_VALUES = 360
"""The memory that the values of an entry take is estimated as the size of the encoded entry plus this many
bytes, but as no more than four times the size of the encoded entry."""
_ROW_MEMORY = 300
"""Bytes that a decoded row of the header's tables takes without its values, by measurement."""


class Directory:
    """The entries of one directory of a catalog, sorted by name."""

    __slots__ = ("_positions", "entries", "first", "number", "parent")

    def __init__(self, number: int, parent: int, first: int, entries: list[Entry]) -> None:
        self.number = number
        self.parent = parent
        """Number of the parent directory; for directory 0 its own number."""
        self.first = first
        """Catalog index of the first entry; entry i of this directory has index first + i."""
        self.entries = entries
        self._positions = {entry.name: position for position, entry in enumerate(entries)}

    def index(self, name: bytes) -> int:
        """Returns the catalog index of the entry with this name, or -1."""
        position = self._positions.get(name, -1)
        return position if position < 0 else self.first + position

    def find(self, name: bytes) -> Entry | None:
        """Returns the entry with this name; None if there is none."""
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
        self.version: int = version
        if magic != MAGIC or version not in READABLE:
            raise FormatError(f"not a catalog of version 1 or 2: it begins with {encoded[:8]!r}")
        if not 0 < entries <= bounds.ENTRIES + 1 or directories > entries:
            raise FormatError(f"catalog of {entries} entries in {directories} directories")
        if header_length > bounds.CATALOG_HEADER:
            raise FormatError(f"catalog with a header of {header_length} bytes")
        table_start = PREFIX.size + header_length
        self._blobs = table_start + 4 * COLUMNS * self._count
        if not self._count or self._blobs > len(encoded):
            raise FormatError(f"catalog of {self._count} directories does not fit its {len(encoded)} bytes")
        try:
            self.header: Header = _header.decode(encoded[PREFIX.size : table_start])
        except msgspec.MsgspecError as error:
            raise FormatError(f"bad catalog header: {error}") from None
        _check_header(self.header, self._count, entries)
        self.packs = PackTable(self.header.packs)
        """The packs that the small files of this catalog lie in."""
        if self.packs.encoded and version == 1:
            raise FormatError("a catalog of version 1 names packs")
        columns = array("I", encoded[table_start : self._blobs])
        if sys.byteorder == "big":
            columns.byteswap()
        size = self._count
        self._offsets, self._lengths = columns[:size], columns[size : 2 * size]
        self._firsts, self._owns = columns[2 * size : 3 * size], columns[3 * size : 4 * size]
        self._parents = columns[4 * size :]
        self._encoded = encoded
        self._check_table()
        self._directories: dict[int, Directory] = {}
        self._shared = dict(self.header.shared)
        self.memory: int = len(encoded) + _ROW_MEMORY * (len(self.header.nested) + len(self._shared))
        """An upper estimate of the memory, in bytes, that the catalog and its decoded directories take."""

    def _check_table(self) -> None:
        """Raises FormatError unless the blobs of the directories follow one another without gaps, and the
        directories form a tree in which every directory has a higher number than its parent."""
        firsts, owns, parents = self._firsts, self._owns, self._parents
        if firsts[0] != 1 or list(firsts) != sorted(firsts) or firsts[-1] > self.entries:
            raise FormatError("the directories of a catalog are out of order")
        end = 0
        for offset, length in zip(self._offsets, self._lengths, strict=True):
            if offset != end:
                raise FormatError("the directories of a catalog overlap or leave a gap")
            end += length
        if self._blobs + end != len(self._encoded):
            raise FormatError(f"the directories of a catalog end {end} bytes behind its table")
        if owns[0] or parents[0]:
            raise FormatError("directory 0 of a catalog lies in another one")
        before = 0
        depths = array("H", bytes(2 * self._count))
        for number in range(1, self._count):
            own, parent = owns[number], parents[number]
            if parent >= number or own <= before or not firsts[parent] <= own < firsts[parent + 1]:
                raise FormatError(f"directory {number} of a catalog lies outside directory {parent}")
            depths[number] = depths[parent] + 1
            if depths[number] > bounds.DEPTH:
                raise FormatError(f"directory {number} of a catalog lies {bounds.DEPTH} directories deep")
            before = own

    @property
    def root(self) -> Entry:
        """The entry of the directory at which the catalog hangs; its index is 0."""
        return self.header.root

    @property
    def directories(self) -> int:
        """The number of directories in this catalog."""
        return self._count

    def directory_size(self, number: int) -> int:
        """Returns the number of entries of directory `number`, without decoding it. Raises FormatError if
        there is no such directory."""
        if not 0 <= number < self._count:
            raise FormatError(f"catalog has no directory {number}, only {self._count}")
        after = self._firsts[number + 1] if number + 1 < self._count else self.entries
        return after - self._firsts[number]

    def directory(self, number: int) -> Directory:
        """Returns directory `number`, decoded once. Raises FormatError if the bytes are not a directory's."""
        found = self._directories.get(number)
        return self._first_touch(number) if found is None else found

    def _first_touch(self, number: int) -> Directory:
        found = self._directories.setdefault(number, self._decode(number))
        count, length = len(found.entries), self._lengths[number]
        self.memory += ENTRY_MEMORY * count + min(4 * length, length + _VALUES * count)
        return found

    def _decode(self, number: int) -> Directory:
        count = self.directory_size(number)
        start = self._blobs + self._offsets[number]
        first = self._firsts[number]
        blob = memoryview(self._encoded)[start : start + self._lengths[number]]
        # The count is checked before decoding: the blob may hold a million more entries than the table says.
        if _array_length(blob) != count:
            raise FormatError(f"directory {number} of a catalog has not {count} entries, as its table says")
        try:
            if count <= _AT_ONCE:
                entries = _entries.decode(blob)
            else:
                entries = [_entry.decode(encoded) for encoded in _encoded_entries.decode(blob)]
        except msgspec.MsgspecError as error:
            raise FormatError(f"bad directory {number} of a catalog: {error}") from None
        previous = b""
        for index, entry in enumerate(entries, first):
            if entry.name <= previous:
                raise FormatError(f"directory {number}: {entry.name!r} after {previous!r}")
            previous = entry.name
            check_name(previous)
            check_entry(entry)
            if entry.link > index:
                raise FormatError(f"directory {number}: {previous!r} is a link to the later {entry.link}")
            if entry.pack_number >= 0:
                self._check_place(entry)
            if entry.is_dir and not entry.flags & NESTED:
                inner = entry.detail
                if not number < inner < self._count or self._owns[inner] != index:
                    raise FormatError(f"directory {number}: {previous!r} leads to directory {inner}")
                if self.header.live:
                    raise FormatError(f"a live folder holds {previous!r}, which is not nested")
        return Directory(number, self._parents[number], first, entries)

    def _check_place(self, entry: Entry) -> None:
        """Raises FormatError if the packed file `entry` does not lie inside one of the catalog's packs."""
        place = entry.place(self.packs)
        if place is None or place.start + place.length > place.ref.size:
            raise FormatError(f"{entry.name!r} of {entry.size} bytes lies outside its pack")

    def entry(self, index: int) -> Entry:
        """Returns the entry with this index; 0 is the root. Raises FormatError if there is none."""
        if index == 0:
            return self.header.root
        directory = self.directory(self.container(index))
        return directory.entries[index - directory.first]

    def shared_path(self, group: int) -> bytes | None:
        """Returns the path of the first name of a hardlink group that has names in several catalogs; None for
        an unknown group."""
        return self._shared.get(group)

    def container(self, index: int) -> int:
        """Returns the number of the directory that holds the entry with this index."""
        if not 0 < index < self.entries:
            raise FormatError(f"catalog has no entry {index}, only {self.entries}")
        return bisect_right(self._firsts, index) - 1

    def own_index(self, number: int) -> int:
        """Returns the index of the entry that is directory `number`."""
        if not 0 <= number < self._count:
            raise FormatError(f"catalog has no directory {number}, only {self._count}")
        return self._owns[number]

    def path(self, index: int) -> bytes:
        """Returns the path of an entry below the catalog's root; empty for the root."""
        names = []
        while index:
            names.append(self.entry(index).name)
            index = self._owns[self.container(index)]
        return b"/".join(reversed(names))


def _array_length(blob: memoryview) -> int:
    """Returns the number of elements that a msgpack array states; -1 if the bytes do not begin with an
    array."""
    kind = blob[0] if blob else 0
    if kind >> 4 == 9:
        return kind & 15
    width = {0xDC: 2, 0xDD: 4}.get(kind)
    return -1 if width is None else int.from_bytes(blob[1 : 1 + width], "big")


def _check_header(header: Header, directories: int, entries: int) -> None:
    """Raises FormatError for a header that contradicts itself."""
    root = header.root
    if not root.is_dir or root.name or root.flags & NESTED or root.detail:
        raise FormatError(f"catalog hangs at {root.name!r} of mode {root.mode:o}, not a directory")
    check_entry(root)
    if header.live and directories != 1:
        raise FormatError(f"a live folder has {directories} directories in its catalog instead of one")
    before = 0
    for index, _ in header.nested:
        if not before < index < entries:
            raise FormatError(f"nested catalog at entry {index} after {before}, of {entries}")
        before = index
    before = 0
    for group, path in header.shared:
        if not before < group <= bounds.SHARED_ID or not 0 < len(path) <= 2 * bounds.PATH:
            raise FormatError(f"hardlink group {group} after {before}, with a path of {len(path)} bytes")
        for name in path.split(b"/"):
            check_name(name)
        before = group
