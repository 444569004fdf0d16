"""Slots: each stands for one catalog at one path, until the kernel has forgotten its numbers.

A slot is allotted to (repository, path where the catalog hangs, catalog digest, digest of the snapshot's top
catalog). The top catalog's digest is among them because a nested catalog's hardlinks may lead into its
neighbours: the same bytes below another top are another snapshot. A live folder has a slot by its path alone.

A slot can be freed when the kernel has forgotten all numbers in it and no slot hangs below it. `IDLE` such
slots wait until their repository's next revision before they are freed. A kernel that is short of memory
forgets numbers that it will ask for again, and without the slot every answer made with them would be lost (a
stat took 29 us instead of 19). Slot numbers are given out in rising order, across all daemons of a mount, and
not reused before 2**32 others have been given out, so a stale number is never another file's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.vfs.inode_numbers import ROOT, pack, unpack
from lazyfs.vfs.rising_numbers import RisingNumbers

_MOST = (1 << 32) - 1
IDLE = 4096
"""The largest number of slots of a repository that are kept although the kernel has forgotten their numbers,
at 0.6 KB each. The slot forgotten first is freed first. One repository of a site does not push out the slots
of another."""


class SlotRecord(msgspec.Struct, array_like=True, frozen=True):
    """A slot's catalog and path, as the journal persists them."""

    slot: int
    repository: str
    path: bytes
    """The path below the repository's root at which the catalog hangs, without a slash at either end."""
    live: bool
    digest: bytes
    """The catalog's digest; for a live folder, of the catalog that it shows now."""
    size: int
    parent: int
    """The slot above, 0 for a repository's root."""
    parent_index: int
    """Index of this catalog's entry in the catalog above, if the catalog above belongs to a snapshot;
    otherwise 0."""
    leaves: bool = False
    """True for the slot of a live folder's entries other than nested directories; `parent` is the folder."""


class Slot:
    """An allotted slot."""

    __slots__ = (
        "below",
        "count",
        "era",
        "in_folder",
        "leaves",
        "live",
        "number",
        "own",
        "parent",
        "parent_index",
        "path",
        "ref",
        "repository",
        "top",
    )

    def __init__(self, record: SlotRecord, parent: "Slot | None") -> None:
        self.number: int = record.slot
        self.repository = record.repository
        self.path = record.path
        self.ref = ObjectRef(Digest(record.digest), record.size)
        self.live = record.live
        self.leaves = record.leaves
        self.parent = parent
        self.parent_index = record.parent_index
        self.count = 0
        """Lookups of the slot's numbers that the kernel has not given back."""
        self.below = 0
        """Number of slots whose parent is this slot."""
        self.era = 0
        """The number of sweeps that its repository had seen when the slot was allotted; each new revision
        makes one."""
        self.own: int = parent.own if record.leaves and parent is not None else pack(record.slot, 0)
        """The inode number of the directory at which the catalog hangs."""
        starts_here = record.live or record.leaves or parent is None or parent.live
        self.top: Slot = self if starts_here else parent.top  # type: ignore[union-attr]
        """The slot of the snapshot's top catalog."""
        self.in_folder = parent is not None and parent.live and not record.live and not record.leaves
        """True for a snapshot that hangs in a live folder: an image or a published tree."""

    def to_record(self) -> SlotRecord:
        """Returns the record to persist."""
        above = self.parent.number if self.parent else 0
        return SlotRecord(
            self.number,
            self.repository,
            self.path,
            self.live,
            self.ref.digest,
            self.ref.size,
            above,
            self.parent_index,
            self.leaves,
        )


_Key = tuple[str, bytes, bytes, bytes, bool]


def _key(slot: Slot) -> _Key:
    if slot.live:
        return (slot.repository, slot.path, b"", b"", False)
    top = b"" if slot.top is slot else slot.top.ref.digest
    return (slot.repository, slot.path, slot.ref.digest, top, slot.leaves)


def _keep_nothing(_: SlotRecord | int) -> None:
    """Does nothing: the `record` of a SlotTable that is not persisted."""


class SlotTable:
    """The slots in use. Not thread-safe: the filesystem's lock is held around every call."""

    def __init__(
        self, record: Callable[[SlotRecord | int], None] = _keep_nothing, last: memoryview | None = None
    ) -> None:
        """`record` is called with the SlotRecord of each slot that is allotted or changed, and with the
        number of each that is freed. `last`: the word with the number allotted last (RisingNumbers)."""
        self._record = record
        self._numbers = RisingNumbers(_MOST, last)
        self._slots: dict[int, Slot] = {}
        self._by_key: dict[_Key, Slot] = {}
        self._idle: dict[str, dict[int, None]] = {}
        """For each repository, the slots that are kept although they could be freed, in the order in which
        they became free."""
        self._eras: dict[str, int] = {}
        """The number of sweeps that each repository has seen, one for each new revision; repositories without
        a sweep are left out."""
        self._moved: dict[int, Slot] = {}
        """The slots of live folders that show a catalog of which `record` has not been told yet."""
        self.root: Slot | None = None
        """The folder that the kernel knows as inode 1."""

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots.values()))

    def __contains__(self, slot: int) -> bool:
        return slot in self._slots

    def get(self, slot: int) -> Slot | None:
        """Returns the slot with this number; None if it is not allotted."""
        return self._slots.get(slot)

    def restore(self, slots: Iterable[SlotRecord], lookups: Mapping[int, int] | None = None) -> None:
        """Takes over the slots that an earlier process had allotted.

        `lookups`: for each slot, the number of times that the kernel looked up its inode numbers. Without
        these counts the slots stay until the mount ends.
        """
        for record in slots:
            self._numbers.restore(record.slot)
            slot = self._add(record)
            slot.count = 1 << 62 if lookups is None else lookups.get(record.slot, 0)
            if not slot.parent:
                self.root = self.root or slot
        if self.root:
            self.root.own = ROOT
        for slot in self:
            if not slot.count and not slot.below:
                self._let_wait(slot)

    def lookups(self) -> dict[int, int]:
        """Returns, for each slot, the lookups of its numbers that the kernel has not given back; slots
        without any are left out."""
        return {number: slot.count for number, slot in self._slots.items() if slot.count}

    def find_live(self, repository: str, path: bytes) -> Slot | None:
        """Returns the slot of a live folder; None if none is allotted, so that the kernel cannot know the
        folder."""
        return self._by_key.get((repository, path, b"", b"", False))

    def live(self, repository: str, path: bytes, ref: ObjectRef, parent: Slot | None, index: int) -> Slot:
        """Returns the slot of a live folder, whose catalog changes with the revision. `ref`: its present
        catalog. `index`: always 0, because the folder above belongs to no snapshot."""
        found = self.find_live(repository, path)
        return found or self._allot(repository, path, ref, parent, index, live=True)

    def snapshot(self, parent: Slot | None, repository: str, path: bytes, ref: ObjectRef, index: int) -> Slot:
        """Returns the slot of a nested catalog that does not change. `index`: that of its entry in the
        catalog above, if that catalog belongs to a snapshot; otherwise 0."""
        top = b"" if parent is None or parent.live else parent.top.ref.digest
        found = self._by_key.get((repository, path, ref.digest, top, False))
        return found or self._allot(repository, path, ref, parent, index)

    def leaves(self, folder: Slot) -> Slot:
        """Returns the slot for the files and links of a live folder at the revision it shows now."""
        found = self._by_key.get((folder.repository, folder.path, folder.ref.digest, b"", True))
        return found or self._allot(folder.repository, folder.path, folder.ref, folder, 0, leaves=True)

    def _allot(
        self,
        repository: str,
        path: bytes,
        ref: ObjectRef,
        parent: Slot | None,
        index: int,
        *,
        live: bool = False,
        leaves: bool = False,
    ) -> Slot:
        number = self._numbers.next(self._slots.__contains__)
        above = parent.number if parent else 0
        record = SlotRecord(number, repository, path, live, ref.digest, ref.size, above, index, leaves)
        slot = self._add(record)
        self._record(record)
        if self.root is None:
            self.root = slot
            slot.own = ROOT
            slot.count = 1
        return slot

    def _add(self, record: SlotRecord) -> Slot:
        parent = self._slots.get(record.parent)
        slot = Slot(record, parent)
        slot.era = self._eras.get(slot.repository, 0)
        if parent:
            parent.below += 1
        self._slots[record.slot] = slot
        self._by_key[_key(slot)] = slot
        return slot

    def show(self, folder: Slot, ref: ObjectRef) -> None:
        """Sets the catalog that a live folder shows from now on. `record_moves` writes the folder's new
        record later."""
        folder.ref = ref
        self._moved[folder.number] = folder

    def record_moves(self) -> None:
        """Records the catalogs that live folders show now. Called once the kernel has dropped the old names.
        A successor that takes over before this call finds the old catalogs in the records, and tells the
        kernel again to drop the names."""
        moved, self._moved = self._moved, {}
        for folder in moved.values():
            if folder.number in self._slots:
                self._record(folder.to_record())

    def forget(self, number: int, lookups: int) -> None:
        """Notes that the kernel has given back `lookups` lookups of a number. Ignores a number whose slot is
        unknown: it may have been given out before a crash."""
        slot = self._slots.get(unpack(number)[0])
        if slot is not None:
            slot.count = max(0, slot.count - lookups)
            if not slot.count and not slot.below:
                self._let_wait(slot)

    def sweep(self, repository: str) -> int:
        """Frees each slot of a repository that has neither lookups nor slots below it, because a new revision
        of the repository has come. The repository's other slots are freed as soon as they have neither. Slots
        of other repositories stay: a name that the kernel has forgotten for want of memory gets its old
        number there. Returns the number of freed slots."""
        before = len(self._slots)
        self._eras[repository] = self._eras.get(repository, 0) + 1
        self._idle.pop(repository, None)
        for slot in list(self._slots.values()):
            if slot.repository == repository:
                self._free(slot)
        return before - len(self._slots)

    def _let_wait(self, slot: Slot) -> None:
        if slot.era != self._eras.get(slot.repository, 0):  # it probably belongs to an earlier revision
            self._free(slot)
            return
        idle = self._idle.setdefault(slot.repository, {})
        idle.pop(slot.number, None)
        idle[slot.number] = None
        if len(idle) > IDLE:
            longest = next(iter(idle))
            del idle[longest]
            self._free(self._slots.get(longest))

    def _free(self, slot: Slot | None) -> None:
        while slot is not None and not slot.count and not slot.below and slot.number in self._slots:
            self._idle.get(slot.repository, {}).pop(slot.number, None)
            del self._slots[slot.number]
            del self._by_key[_key(slot)]
            self._record(slot.number)
            slot = slot.parent
            if slot is not None:
                slot.below -= 1
