"""One page-cache copy of a file that several images share.

The kernel caches pages by inode. If a file of at least 64 KiB lies at the same path inside two images, with
all attributes equal, it gets one inode number in both: no program can tell the difference. So ten tags of an
image fill memory once. Two files of one image never share, since their paths differ. Smaller files are left
out, because each shared file takes a row of about 400 bytes while the kernel knows it. The kernel may ask
again for a file that it has forgotten, so `IDLE` such rows are kept until their repository's next revision,
as with slots.
"""

from collections.abc import Callable, Mapping

import msgspec

from lazyfs.core.catalog.entry import Entry, packed_detail
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.pack import PackTable
from lazyfs.vfs.inode_numbers import pack, unpack
from lazyfs.vfs.rising_numbers import RisingNumbers
from lazyfs.vfs.slots import SlotTable

MIN_SIZE = 64 << 10
IDLE = 4096
PATH = b"\0copies"
"""The path of the slot that a repository has for shared files. No real path equals it: no name holds a zero
byte."""
MOST = 40_000
"""The default for the largest number of rows, of 1 KB each with their place in the journal; a mount with more
or less memory sets another (`most`)."""
GREED = 4
"""A repository gets further rows as long as it has fewer than `GREED` times the rows that are free (the
dynamic threshold of Choudhury and Hahne, 1998). One repository alone takes 4/5 of all rows, two take 4/9
each, and some rows are always free for a further repository."""
_NO_CATALOG = ObjectRef(Digest(bytes(32)), 0)


class SharedFile(msgspec.Struct, array_like=True, frozen=True):
    """A shared file as the journal persists it, with everything that is needed to answer for it."""

    number: int
    path: bytes
    """The file's path below the root of the image."""
    entry: Entry
    """The file's entry. If the file lies in a pack, its pack number here is 0, whatever it is in the
    catalog."""
    packs: bytes = b""
    """An encoded PackTable that holds only the file's pack."""

    @property
    def identity(self) -> tuple[int, bytes, Entry]:
        """Slot, path and entry. If these are equal, no program can tell two files apart, even if they lie in
        different packs."""
        return unpack(self.number)[0], self.path, _without_place(self.entry)


def _keep_nothing(_: SharedFile | int) -> None:
    """Does nothing: the `record` of SharedFiles that are not persisted."""


class SharedFiles:
    """The shared files the kernel knows, of all repositories of a mount."""

    def __init__(
        self, record: Callable[[SharedFile | int], None] = _keep_nothing, last: memoryview | None = None
    ) -> None:
        """`record` is called with each new row, and with the number of each that is dropped. `last`: the word
        with the index given out last (RisingNumbers)."""
        self._record = record
        self._indices = RisingNumbers(0x7FFF_FFFF, last)
        self._entries: dict[int, SharedFile] = {}
        self._numbers: dict[tuple[int, bytes, Entry], int] = {}
        self._lookups: dict[int, int] = {}
        self._idle: dict[int, dict[int, None]] = {}
        """The rows without lookups in each slot (and so of each repository), in the order in which they lost
        their last lookup."""
        self._rows: dict[int, int] = {}
        """The number of rows in each slot, and so of each repository."""
        self.most = MOST
        """The largest number of rows. When a repository has its share of them, each further file of its
        images gets a number of its own in its image."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, number: int) -> Entry | None:
        """Returns the entry of a shared file; None if no shared file has the number."""
        found = self._entries.get(number)
        return found.entry if found else None

    def packs(self, number: int) -> PackTable:
        """Returns the table of packs to which the pack number of the entry from `get(number)` refers."""
        return PackTable(self._entries[number].packs)

    def path(self, number: int) -> bytes:
        """Returns the file's path inside each image that has it."""
        return self._entries[number].path

    def restore(self, shared_files: list[SharedFile], lookups: Mapping[int, int] | None = None) -> None:
        """Takes over the shared files of an earlier process. `lookups`: for each number, the lookups that the
        kernel has not given back. Without these counts the files stay until the mount ends."""
        for shared in shared_files:
            self._indices.restore(unpack(shared.number)[1])
            self._keep(shared)
            known = 1 << 62 if lookups is None else lookups.get(shared.number, 0)
            if known:
                self._lookups[shared.number] = known

    def lookups(self) -> dict[int, int]:
        """Returns, for each number, the lookups that the kernel has not given back."""
        return dict(self._lookups)

    def number(
        self, slots: SlotTable, repository: str, path: bytes, entry: Entry, packs: PackTable
    ) -> int | None:
        """Returns the number of a file at `path` inside an image: equal files at equal paths share a number.
        Returns None if there is no such number yet, and the repository has its share of the `most` rows.
        `packs`: the table of the entry's catalog."""
        slot = slots.snapshot(slots.root, repository, PATH, _NO_CATALOG, 0)
        found = self._numbers.get((slot.number, path, _without_place(entry)))
        if found is None:
            if self._rows.get(slot.number, 0) >= GREED * (self.most - len(self._entries)):
                return None
            index = self._indices.next(lambda index: pack(slot.number, index) in self._entries)
            found = pack(slot.number, index)
            shared = _shared_file(found, path, entry, packs)
            self._keep(shared)
            self._record(shared)
        return found

    def _keep(self, shared: SharedFile) -> None:
        slot = unpack(shared.number)[0]
        self._rows[slot] = self._rows.get(slot, 0) + 1
        self._entries[shared.number] = shared
        self._numbers[shared.identity] = shared.number

    def hold(self, number: int, lookups: int = 1) -> None:
        """Notes that the kernel was told of the number `lookups` times."""
        self._lookups[number] = self._lookups.get(number, 0) + lookups

    def forget(self, number: int, lookups: int) -> None:
        """Notes that the kernel has given back `lookups` lookups of a number. A row without lookups may be
        dropped."""
        if number not in self._entries:
            return
        left = self._lookups.get(number, 0) - lookups
        if left > 0:
            self._lookups[number] = left
            return
        self._lookups.pop(number, None)
        idle = self._idle.setdefault(unpack(number)[0], {})
        idle.pop(number, None)
        idle[number] = None
        if len(idle) > IDLE:
            longest = next(iter(idle))
            del idle[longest]
            self._drop(longest)

    def sweep(self, slots: SlotTable, repository: str) -> None:
        """Drops the rows of a repository for which the kernel holds no lookups, because a new revision of the
        repository has come. Also drops such rows of freed slots."""
        for number in list(self._entries):
            slot = slots.get(unpack(number)[0])
            if slot is None or slot.repository == repository:
                self._idle.pop(unpack(number)[0], None)
                self._drop(number)

    def _drop(self, number: int) -> None:
        if number in self._entries and number not in self._lookups:
            self._record(number)
            shared = self._entries.pop(number)
            del self._numbers[shared.identity]
            slot = unpack(number)[0]
            self._rows[slot] -= 1
            if not self._rows[slot]:
                del self._rows[slot]


def _shared_file(number: int, path: bytes, entry: Entry, packs: PackTable) -> SharedFile:
    place = entry.place(packs) if entry.pack_number >= 0 else None
    if place is None:
        return SharedFile(number, path, entry)
    own = msgspec.structs.replace(entry, detail=packed_detail(0, place.start))
    return SharedFile(number, path, own, PackTable.of([place.ref]).encoded)


def _without_place(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, detail=0) if entry.pack_number >= 0 else entry
